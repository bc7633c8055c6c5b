"""Image files and arrays: read, write, resize, crop, lay out in a grid."""
