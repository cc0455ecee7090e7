//! The arithmetic of a ticket. Every amount is whole cents in both currencies, so that sums are exact.
//!
//! - A price in bolívares is the dollar price at the sale's rate, to the cent, line by line.
//! - Goods by weight have prices in steps of 0.20 in both currencies and weights in steps of 0.05 kg: 0.05 × 0.20 is a cent.
//! - A discount is a share of a line, to the cent, in each currency.
//! - IVA is 16 % of the ticket's taxed net amount, to the cent, in each currency, as a fiscal receipt has it.
//! - Half a cent is rounded away from zero, so that a return is the exact opposite of its sale.

use crate::retail::{Amounts, Totals};
use rust_decimal::{Decimal, RoundingStrategy};
use std::ops::{Add, AddAssign, Neg, Sub};

/// An amount in both currencies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Both {
    pub usd: Decimal,
    pub bs: Decimal,
}

impl Both {
    pub fn map(self, f: impl Fn(Decimal) -> Decimal) -> Self {
        Self { usd: f(self.usd), bs: f(self.bs) }
    }
}

impl Add for Both {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { usd: self.usd + other.usd, bs: self.bs + other.bs }
    }
}

impl AddAssign for Both {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Both {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Neg for Both {
    type Output = Self;
    fn neg(self) -> Self {
        self.map(|amount| -amount)
    }
}

pub fn cents(amount: Decimal) -> Decimal {
    amount.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero)
}

/// A dollar amount with its worth in bolívares, to the cent.
pub fn at_rate(usd: Decimal, rate: Decimal) -> Both {
    Both { usd, bs: cents(usd * rate) }
}

/// The price of goods by weight: bolívares in steps of 0.20, at least one step.
pub fn price_by_weight(usd: Decimal, rate: Decimal) -> Both {
    let steps = (usd * rate * Decimal::from(5)).round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero);
    Both { usd, bs: steps.max(Decimal::ONE) * Decimal::new(20, 2) }
}

/// A line of a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where the product stands in its shop.
    pub product: usize,
    pub qty: Decimal,
    pub price: Both,
    /// Of the whole line.
    pub discount: Both,
    pub cost: Both,
    pub taxed: bool,
}

impl Line {
    pub fn gross(&self) -> Both {
        self.price.map(|price| price * self.qty)
    }

    /// Takes a share off, in percent.
    pub fn discounted(self, percent: u32) -> Self {
        let discount = self.gross().map(|gross| cents(gross * Decimal::new(i64::from(percent), 2)));
        Self { discount, ..self }
    }

    /// The line that gives this one back.
    pub fn returned(&self) -> Self {
        Self { qty: -self.qty, discount: -self.discount, ..self.clone() }
    }
}

/// `total = gross - discount + tax`, all of them sums over the lines.
pub fn totals(lines: &[Line]) -> Totals {
    let (mut gross, mut discount, mut taxed, mut items) =
        (Both::default(), Both::default(), Both::default(), Decimal::ZERO);
    for line in lines {
        gross += line.gross();
        discount += line.discount;
        items += line.qty;
        if line.taxed {
            taxed += line.gross() - line.discount;
        }
    }
    let iva = taxed.map(|base| cents(base * Decimal::new(16, 2)));
    // Whole cents already: this drops zeros, never an amount.
    let (gross, discount) = (gross.map(cents), discount.map(cents));
    Totals {
        bs: Amounts { gross: gross.bs, discount: discount.bs, tax: iva.bs },
        usd: Amounts { gross: gross.usd, discount: discount.usd, tax: iva.usd },
        items: items.normalize(),
    }
}
