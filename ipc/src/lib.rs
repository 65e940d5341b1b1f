//! What two Tithon processes must agree on: paths, protocols, connections. No business logic.
