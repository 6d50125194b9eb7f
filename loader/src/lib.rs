//! ELF files to mapping plans, syscall sites to patch plans.
