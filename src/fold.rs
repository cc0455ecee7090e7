//! Folding by the service, where no background worker does it.
