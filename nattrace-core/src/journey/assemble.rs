//! Events to journeys.
