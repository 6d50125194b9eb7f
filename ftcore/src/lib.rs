//! What all kernel code of the image stands on; sans-I/O.
