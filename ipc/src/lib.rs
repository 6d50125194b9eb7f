//! Inter-process communication inside an image.
