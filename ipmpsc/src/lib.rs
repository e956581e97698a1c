//! Inter-process multiple-producer single-consumer channels over a shared-memory ring buffer.
