//! Programs under test; they know nothing of ftvm.
