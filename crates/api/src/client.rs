//! A small client for the control socket.
