//! The chain of shops that a seed makes: shops, cashiers, products and customers. Shop `n` is the same in a chain of any size.

use super::goods::Base;
use super::rhythm::Trade;
use super::seed;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use rand_distr::{Distribution, Zipf};
use rust_decimal::Decimal;
use uuid::Uuid;

/// The largest chain.
pub const MAX_SHOPS: usize = 100;
const CUSTOMERS: usize = 300;
/// Tickets of an ordinary day in a shop of ordinary size.
const TICKETS_A_DAY: u64 = 150;

const PLACES: [&str; 25] = [
    "La Candelaria",
    "Chacao",
    "Sabana Grande",
    "El Cafetal",
    "Los Teques",
    "Maracay",
    "La Victoria",
    "Valencia",
    "Puerto Cabello",
    "Barquisimeto",
    "Carora",
    "Mérida",
    "Ejido",
    "San Cristóbal",
    "Maracaibo",
    "Cabimas",
    "Coro",
    "Punto Fijo",
    "Barinas",
    "Acarigua",
    "Maturín",
    "Barcelona",
    "Cumaná",
    "Porlamar",
    "Ciudad Bolívar",
];

#[derive(Debug)]
pub struct Product {
    pub id: Uuid,
    pub sku: String,
    pub name: String,
    pub category: &'static str,
    pub base: &'static Base,
    pub price_usd: Decimal,
    pub cost_usd: Decimal,
    /// What a delivery fills the shelf up to.
    pub full: Decimal,
    pub low: Decimal,
}

#[derive(Debug)]
pub struct Person {
    pub id: Uuid,
    pub name: String,
    /// A customer's identity number.
    pub document: String,
}

#[derive(Debug)]
pub struct Shop {
    pub seed: u64,
    pub index: usize,
    pub id: Uuid,
    pub name: String,
    pub trade: Trade,
    /// Tickets of an ordinary day.
    pub usual: u64,
    pub cashiers: Vec<Person>,
    pub customers: Vec<Person>,
    pub products: Vec<Product>,
    /// Products, the most wanted first.
    ranking: Vec<usize>,
}

/// The id of the shop of that place in the chain of that seed.
pub fn shop_id(seed: u64, index: usize) -> Uuid {
    seed::id(seed, &format!("shop/{index}"))
}

pub fn chain(seed: u64, shops: usize) -> Vec<Shop> {
    (0..shops.min(MAX_SHOPS)).map(|index| Shop::new(seed, index)).collect()
}

impl Shop {
    pub fn new(seed: u64, index: usize) -> Self {
        // The bar comes second, so that a small chain has it; the other four trades take turns.
        let turn = index.checked_sub(1);
        let trade = match turn {
            Some(0) => Trade::Bar,
            turn => [Trade::Abasto, Trade::Cafeteria, Trade::Farmacia, Trade::Ferreteria][turn.unwrap_or_default() % 4],
        };
        // Four trades and twenty-five places share no factor: a hundred shops have a hundred names.
        let place = turn.map_or("El Hatillo", |turn| PLACES[turn % PLACES.len()]);
        let mut rng = seed::rng(seed, &format!("shop/{index}"));
        let name = format!("{} {place}", trade.name());
        let usual = TICKETS_A_DAY * rng.random_range(70..=130) / 100;
        let cashiers = (0..4)
            .map(|n| Person {
                id: seed::id(seed, &format!("cashier/{index}/{n}")),
                name: super::people::cashier(&mut rng),
                document: String::new(),
            })
            .collect();
        let customers = (0..CUSTOMERS).map(|n| customer(&mut rng, seed, index, n)).collect();
        let mut products = stock_list(&mut rng, seed, index, trade);
        let mut ranking: Vec<usize> = (0..products.len()).collect();
        ranking.shuffle(&mut rng);
        set_shelves(&mut products, &ranking, usual, trade);
        Self { seed, index, id: shop_id(seed, index), name, trade, usual, cashiers, customers, products, ranking }
    }

    /// A product, as wanted as its rank: the first of two hundred is asked for a hundred times as often as the last.
    pub fn pick(&self, rng: &mut impl Rng) -> usize {
        let Ok(zipf) = Zipf::new(self.ranking.len() as f64, 0.9) else {
            return 0;
        };
        self.ranking[(zipf.sample(rng) as usize).clamp(1, self.ranking.len()) - 1]
    }

    /// A customer who gave a name, regulars more often than others; two thirds give none.
    pub fn customer(&self, rng: &mut impl Rng) -> Option<usize> {
        if rng.random_ratio(2, 3) {
            return None;
        }
        let zipf = Zipf::new(self.customers.len() as f64, 0.7).ok()?;
        Some((zipf.sample(rng) as usize).clamp(1, self.customers.len()) - 1)
    }
}

fn customer(rng: &mut impl Rng, seed: u64, shop: usize, n: usize) -> Person {
    let serial = u32::try_from(n * MAX_SHOPS + shop).unwrap_or_default();
    let (name, document) = super::people::buyer(rng, serial);
    Person { id: seed::id(seed, &format!("customer/{shop}/{n}")), name, document }
}

fn stock_list(rng: &mut impl Rng, seed: u64, shop: usize, trade: Trade) -> Vec<Product> {
    let mut products = Vec::new();
    for base in trade.goods() {
        for brand in base.brands {
            for (size, cents) in base.sizes {
                let sku = format!("{}-{:04}", trade.sku_prefix(), products.len() + 1);
                // Goods by weight keep their steps of twenty cents.
                let step = if base.weighed { 20 } else { 1 };
                let cents = i64::from(cents / step) * rng.random_range(95..=105_i64) / 100 * i64::from(step);
                let cost = (cents * rng.random_range(58..=80_i64) / 100).max(1);
                let name =
                    [base.name, brand, size].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
                products.push(Product {
                    id: seed::id(seed, &format!("product/{shop}/{sku}")),
                    sku,
                    name,
                    category: base.category,
                    base,
                    price_usd: Decimal::new(cents, 2),
                    cost_usd: Decimal::new(cost, 2),
                    full: Decimal::ZERO,
                    low: Decimal::ZERO,
                });
            }
        }
    }
    products
}

/// Shelves hold nine days of what their product sells, and are low at three.
fn set_shelves(products: &mut [Product], ranking: &[usize], usual: u64, trade: Trade) {
    let share = |rank: usize| (rank as f64 + 1.0).powf(-0.9);
    let all: f64 = (0..ranking.len()).map(share).sum();
    let lines_a_day = usual as f64 * (1.0 + f64::from(trade.more_lines()) / 10.0);
    for (rank, product) in ranking.iter().enumerate() {
        let product = &mut products[*product];
        let units_a_day = (lines_a_day * share(rank) / all * (1.0 + f64::from(product.base.most) * 0.25)).ceil() as i64;
        product.full = Decimal::from(units_a_day * 9 + 3);
        product.low = Decimal::from(units_a_day * 3 + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_shop_is_the_same_in_a_chain_of_any_size() {
        let (small, large) = (chain(42, 2), chain(42, MAX_SHOPS));
        for (a, b) in small.iter().zip(&large) {
            assert_eq!(format!("{a:?}"), format!("{b:?}"));
        }
        assert_ne!(chain(43, 1)[0].id, small[0].id);
    }

    #[test]
    fn names_numbers_and_ids_are_unique_and_there_is_one_bar() {
        let shops = chain(42, MAX_SHOPS);
        let names: HashSet<&str> = shops.iter().map(|shop| shop.name.as_str()).collect();
        assert_eq!(names.len(), MAX_SHOPS);
        assert_eq!(shops.iter().filter(|shop| shop.trade == Trade::Bar).count(), 1);
        let documents: HashSet<&str> = shops.iter().flat_map(|s| &s.customers).map(|c| c.document.as_str()).collect();
        assert_eq!(documents.len(), MAX_SHOPS * CUSTOMERS);
        for shop in &shops {
            let ids: HashSet<Uuid> = shop.products.iter().map(|product| product.id).collect();
            assert_eq!(ids.len(), shop.products.len());
            assert!(shop.products.iter().all(|p| p.cost_usd < p.price_usd && p.low < p.full));
        }
    }
}
