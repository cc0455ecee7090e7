//! How a ticket is paid: one tender or two, with change in the other currency.
//!
//! The last row takes what is left in each currency, so the rows' sum is the ticket's total to the cent in both.

use super::money::{Both, at_rate, cents};
use crate::retail::{Jsonb, Totals};
use rand::{Rng, RngExt};
use rust_decimal::Decimal;
use std::fmt::Write;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Currency {
    Bs,
    Usd,
}

impl Currency {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bs => "BS",
            Self::Usd => "USD",
        }
    }
}

/// A row of `sale_payments`; change given back is negative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tender {
    pub method: &'static str,
    pub currency: Currency,
    pub worth: Both,
}

impl Tender {
    pub fn amount(&self) -> Decimal {
        match self.currency {
            Currency::Bs => self.worth.bs,
            Currency::Usd => self.worth.usd,
        }
    }
}

/// What was given, and what was given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub tenders: Vec<Tender>,
    pub change: Option<Tender>,
    /// The number of the sale that a return gives back.
    pub refund_of: Option<String>,
}

const BS_METHODS: [&str; 3] = ["card", "pago_movil", "cash_bs"];

impl Payment {
    /// Pays for the ticket as people do.
    pub fn draw(rng: &mut impl Rng, totals: &Totals, rate: Decimal) -> Self {
        let total = total(totals);
        match rng.random_range(0..100_u32) {
            0..38 => Self::single("card", Currency::Bs, total),
            38..65 => Self::single("pago_movil", Currency::Bs, total),
            65..82 => Self::bills(rng, total, rate),
            82..88 => Self::single("zelle", Currency::Usd, total),
            88..93 => Self::single("cash_bs", Currency::Bs, total),
            _ => Self::split(rng, total, rate),
        }
    }

    /// Gives the money of a return back, in the first tender's way of the sale.
    pub fn refund(sale: &Self, number: &str, totals: &Totals) -> Self {
        let (method, currency) = sale.tenders.first().map_or(("cash_bs", Currency::Bs), |t| (t.method, t.currency));
        Self { refund_of: Some(number.to_owned()), ..Self::single(method, currency, total(totals)) }
    }

    fn single(method: &'static str, currency: Currency, worth: Both) -> Self {
        Self { tenders: vec![Tender { method, currency, worth }], change: None, refund_of: None }
    }

    /// Dollar bills; the change is bolívares.
    fn bills(rng: &mut impl Rng, total: Both, rate: Decimal) -> Self {
        let bill = Decimal::from([1, 5, 10, 20][rng.random_range(0..4_usize)]);
        let given = (total.usd / bill).ceil() * bill;
        let paid = Self::single("cash_usd", Currency::Usd, at_rate(given, rate));
        let back = total - at_rate(given, rate);
        // Exact money, or so near that rounding line by line would turn the change around.
        if back.usd >= Decimal::ZERO || back.bs >= Decimal::ZERO {
            return Self::single("cash_usd", Currency::Usd, total);
        }
        let method = if rng.random_ratio(7, 10) { "pago_movil" } else { "cash_bs" };
        Self { change: Some(Tender { method, currency: Currency::Bs, worth: back }), ..paid }
    }

    /// Some whole dollars, the rest in bolívares.
    fn split(rng: &mut impl Rng, total: Both, rate: Decimal) -> Self {
        let share = Decimal::new(rng.random_range(20..80), 2);
        let dollars = at_rate((total.usd * share).floor(), rate);
        let rest = total - dollars;
        let method = BS_METHODS[rng.random_range(0..BS_METHODS.len())];
        if dollars.usd.is_zero() || rest.usd <= Decimal::ZERO || rest.bs <= Decimal::ZERO {
            return Self::single(method, Currency::Bs, total);
        }
        let tenders = vec![
            Tender { method: "cash_usd", currency: Currency::Usd, worth: dollars },
            Tender { method, currency: Currency::Bs, worth: rest },
        ];
        Self { tenders, change: None, refund_of: None }
    }

    /// Tenders, then change: the rows of `sale_payments`.
    pub fn rows(&self) -> impl Iterator<Item = &Tender> {
        self.tenders.iter().chain(&self.change)
    }

    /// `sales.payment`.
    pub fn to_jsonb(&self) -> Jsonb {
        let method = if let [only] = &self.tenders[..] { only.method } else { "mixed" };
        // Writing to a String cannot fail.
        let mut json = format!(r#"{{"method":"{method}","tenders":["#);
        for (position, tender) in self.tenders.iter().enumerate() {
            let _ = write!(
                json,
                r#"{}{{"method":"{}","currency":"{}","amount":{},"amount_bs":{},"amount_usd":{}}}"#,
                if position == 0 { "" } else { "," },
                tender.method,
                tender.currency.as_str(),
                tender.amount(),
                tender.worth.bs,
                tender.worth.usd,
            );
        }
        json.push(']');
        if let Some(change) = &self.change {
            let _ = write!(
                json,
                r#","change":{{"currency":"{}","amount":{}}}"#,
                change.currency.as_str(),
                -change.amount()
            );
        }
        if let Some(number) = &self.refund_of {
            let _ = write!(json, r#","refund_of":"{number}""#);
        }
        json.push('}');
        Jsonb(json)
    }
}

fn total(totals: &Totals) -> Both {
    Both { usd: cents(totals.usd.total()), bs: cents(totals.bs.total()) }
}
