//! Conformance runner and repository checks.
