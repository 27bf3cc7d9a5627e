//! Commands as programs send them, and as nobody should.
