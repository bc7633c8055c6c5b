"""From a network of fixed size to any image with any mask."""
