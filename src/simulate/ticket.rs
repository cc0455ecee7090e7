//! A ticket: what is in the basket, who buys, how it is paid.

use super::chain::Shop;
use super::money::{self, Both, Line};
use super::seed;
use super::tender::Payment;
use crate::retail::{Kind, Totals};
use jiff::Timestamp;
use rand::{Rng, RngExt};
use rust_decimal::Decimal;
use uuid::Uuid;

/// A sale or a return, as a till writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    pub id: Uuid,
    /// Where the shop stands in the chain.
    pub shop: usize,
    pub number: String,
    pub kind: Kind,
    pub customer: Option<usize>,
    pub cashier: usize,
    pub sold_at: Timestamp,
    /// When the database gets it: later than `sold_at` where the till was offline.
    pub arrived_at: Timestamp,
    pub voided_at: Option<Timestamp>,
    pub rate: Decimal,
    pub lines: Vec<Line>,
    pub totals: Totals,
    pub payment: Payment,
}

impl Ticket {
    /// Draws a sale.
    pub fn draw(rng: &mut impl Rng, shop: &Shop, number: String, sold_at: Timestamp, rate: Decimal) -> Self {
        let mut lines: Vec<Line> = Vec::new();
        loop {
            let product = shop.pick(rng);
            if lines.iter().all(|line| line.product != product) {
                lines.push(line(rng, shop, product, rate));
            }
            let more = shop.trade.more_lines();
            if lines.len() >= 25 || !rng.random_ratio(more, more + 10) {
                break;
            }
        }
        if rng.random_ratio(6, 100) {
            let percent = [5, 10, 15][rng.random_range(0..3_usize)];
            lines = lines.into_iter().map(|line| line.discounted(percent)).collect();
        }
        let totals = money::totals(&lines);
        Self {
            id: seed::id(shop.seed, &format!("ticket/{}/{number}", shop.index)),
            shop: shop.index,
            kind: Kind::Sale,
            customer: shop.customer(rng),
            cashier: rng.random_range(0..shop.cashiers.len()),
            sold_at,
            arrived_at: sold_at,
            voided_at: None,
            rate,
            payment: Payment::draw(rng, &totals, rate),
            lines,
            totals,
            number,
        }
    }

    /// Some or all lines brought back, at the prices and the rate of the sale.
    pub fn returned(&self, rng: &mut impl Rng, shop: &Shop, number: String, at: Timestamp) -> Self {
        let kept = rng.random_range(0..self.lines.len());
        let lines: Vec<Line> = self.lines.iter().skip(kept).map(Line::returned).collect();
        let totals = money::totals(&lines);
        Self {
            id: seed::id(shop.seed, &format!("ticket/{}/{number}", shop.index)),
            kind: Kind::Return,
            cashier: rng.random_range(0..shop.cashiers.len()),
            sold_at: at,
            arrived_at: at,
            payment: Payment::refund(&self.payment, &self.number, &totals),
            lines,
            totals,
            number,
            ..self.clone()
        }
    }

    pub fn line_id(&self, line_no: i32) -> Uuid {
        Uuid::new_v5(&self.id, &line_no.to_be_bytes())
    }
}

fn line(rng: &mut impl Rng, shop: &Shop, product: usize, rate: Decimal) -> Line {
    let goods = &shop.products[product];
    let qty = if goods.base.weighed {
        // 0.25 to 2.50 kg, in steps of 50 g.
        Decimal::new(rng.random_range(5..=50) * 5, 2)
    } else {
        let mut units = 1;
        while units < goods.base.most && rng.random_ratio(45, 100) {
            units += 1;
        }
        Decimal::from(units)
    };
    let price = unit_price(goods, rate);
    Line {
        product,
        qty,
        price,
        discount: Both::default(),
        cost: money::at_rate(goods.cost_usd, rate),
        taxed: goods.base.taxed,
    }
}

/// The price on the shelf at that rate.
pub fn unit_price(product: &super::chain::Product, rate: Decimal) -> Both {
    if product.base.weighed {
        money::price_by_weight(product.price_usd, rate)
    } else {
        money::at_rate(product.price_usd, rate)
    }
}
