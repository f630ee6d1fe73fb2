//! The connector on the test host.
