//! The director's table.
