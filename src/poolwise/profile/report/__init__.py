"""One recording as one page: everything in one HTML file, which needs no network to be read."""
