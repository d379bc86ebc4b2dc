//! Stand-ins for tests: nothing in here is shipped.
