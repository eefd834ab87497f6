//! Batches as they are read, built and refused.
