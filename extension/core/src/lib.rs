//! The arithmetic of Pulso's engine, free of Postgres: exact decimals in Postgres's own binary form.
//!
//! Kept apart so that unit and property tests run without a server.

pub mod decimal;
pub mod sum;

pub use decimal::Decimal;
pub use sum::DecimalSum;
