//! The Linux ABI of an image.
