//! Accept, handshake, serve, drain.
