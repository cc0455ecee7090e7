use super::chain::{Shop, chain};
use super::money::{self, Both, Line};
use super::rates::Rates;
use super::tender::Payment;
use super::ticket::Ticket;
use super::{Lasting, day, parse_days, parse_duration, parse_rate, seed};
use crate::retail::Kind;
use jiff::civil::{Date, date};
use proptest::prelude::*;
use rust_decimal::Decimal;
use std::collections::HashSet;
use std::time::Duration;

const FIRST: Date = date(2026, 10, 1);
const LAST: Date = date(2026, 11, 21);

fn rates(seed: u64) -> Rates {
    Rates::walk(seed, date(2026, 9, 25), date(2026, 11, 25))
}

fn days(shop: &Shop) -> Vec<Ticket> {
    let rates = rates(shop.seed);
    FIRST
        .series(jiff::Span::new().days(1))
        .take_while(|day| *day <= LAST)
        .flat_map(|date| day::tickets(shop, date, FIRST, &rates).expect("every rate is there"))
        .collect()
}

fn sum(parts: impl Iterator<Item = Both>) -> Both {
    parts.fold(Both::default(), |sum, part| sum + part)
}

/// What every ticket keeps to, to the cent.
fn assert_identities(ticket: &Ticket) {
    let totals = &ticket.totals;
    let both = |f: fn(&crate::retail::Amounts) -> Decimal| Both { usd: f(&totals.usd), bs: f(&totals.bs) };
    assert_eq!(both(|a| a.gross), sum(ticket.lines.iter().map(Line::gross)), "gross is the lines'");
    assert_eq!(both(|a| a.discount), sum(ticket.lines.iter().map(|line| line.discount)), "discount is the lines'");
    assert_eq!(totals.items, ticket.lines.iter().map(|line| line.qty).sum::<Decimal>());
    assert_eq!(
        both(|a| a.total()),
        sum(ticket.payment.rows().map(|tender| tender.worth)),
        "tenders less change are the total"
    );
    let taxed = sum(ticket.lines.iter().filter(|line| line.taxed).map(|line| line.gross() - line.discount));
    for (tax, base) in [(totals.usd.tax, taxed.usd), (totals.bs.tax, taxed.bs)] {
        assert!((tax - base * Decimal::new(16, 2)).abs() <= Decimal::new(5, 3), "IVA is 16 %: {tax} of {base}");
    }
    for amount in ticket.payment.rows().flat_map(|t| [t.worth.usd, t.worth.bs]).chain([
        totals.usd.tax,
        totals.bs.gross,
        totals.usd.gross,
    ]) {
        assert_eq!(amount, money::cents(amount), "whole cents");
    }
    if ticket.kind == Kind::Sale {
        assert!(totals.usd.total() > Decimal::ZERO && totals.bs.total() > Decimal::ZERO);
        assert!(
            ticket.payment.tenders.iter().all(|t| t.worth.usd > Decimal::ZERO && t.worth.bs > Decimal::ZERO),
            "{:?}",
            ticket.payment
        );
        assert!(
            ticket.payment.change.iter().all(|t| t.worth.usd < Decimal::ZERO && t.worth.bs < Decimal::ZERO),
            "{:?}",
            ticket.payment
        );
    }
    // Both currencies tell of the same money: half a cent of a dollar by line, and the steps of goods by weight.
    let lines = Decimal::from(ticket.lines.len() + 1);
    let steps: Decimal = ticket.lines.iter().map(|line| line.qty.abs() * Decimal::new(10, 2)).sum();
    let apart = (totals.usd.total() * ticket.rate - totals.bs.total()).abs();
    assert!(apart <= lines * Decimal::new(1, 2) * ticket.rate + steps * Decimal::TWO, "{apart} Bs apart");
}

#[test]
fn a_season_of_every_trade_keeps_every_identity() {
    for shop in chain(42, 5) {
        let tickets = days(&shop);
        tickets.iter().for_each(assert_identities);
        let numbers: HashSet<&str> = tickets.iter().map(|ticket| ticket.number.as_str()).collect();
        let ids: HashSet<uuid::Uuid> = tickets.iter().map(|ticket| ticket.id).collect();
        assert_eq!((numbers.len(), ids.len()), (tickets.len(), tickets.len()), "numbers and ids are the tickets' own");
        assert!(tickets.iter().all(|t| t.arrived_at >= t.sold_at && t.voided_at.is_none_or(|at| at > t.arrived_at)));
    }
}

#[test]
fn a_season_has_what_shops_have() {
    let tickets: Vec<Ticket> = chain(42, 5).iter().flat_map(days).collect();
    let share = |has: fn(&Ticket) -> bool| tickets.iter().filter(|ticket| has(ticket)).count() * 1000 / tickets.len();
    assert!((5..=20).contains(&share(|t| t.kind == Kind::Return)), "returns");
    assert!((10..=20).contains(&share(|t| t.voided_at.is_some())), "voids");
    assert!((1..=20).contains(&share(|t| t.arrived_at > t.sold_at)), "late");
    assert!((40..=80).contains(&share(|t| !t.totals.usd.discount.is_zero())), "discounts");
    assert!((250..=400).contains(&share(|t| t.customer.is_some())), "customers");
    assert!((30..=90).contains(&share(|t| t.payment.tenders.len() > 1)), "mixed");
    assert!((60..=250).contains(&share(|t| t.payment.change.is_some())), "change");
    let methods: HashSet<&str> = tickets.iter().flat_map(|t| t.payment.rows()).map(|tender| tender.method).collect();
    assert_eq!(methods, HashSet::from(["card", "pago_movil", "cash_bs", "cash_usd", "zelle"]));
    let a_day = tickets.len() / 5 / 52;
    assert!((100..=200).contains(&a_day), "{a_day} tickets by shop and day");
}

#[test]
fn a_return_brings_back_lines_of_an_earlier_sale_once() {
    for shop in chain(42, 5) {
        let tickets = days(&shop);
        let mut refunded = HashSet::new();
        for back in tickets.iter().filter(|ticket| ticket.kind == Kind::Return) {
            let number = back.payment.refund_of.as_deref().expect("it names its sale");
            assert!(refunded.insert(number), "{number} comes back twice");
            let sale = tickets.iter().find(|t| t.number == number).expect("its sale is there");
            assert!(sale.sold_at < back.sold_at && sale.voided_at.is_none() && sale.rate == back.rate);
            for line in &back.lines {
                assert!(sale.lines.contains(&line.returned()), "the line was sold");
            }
        }
        assert!(!refunded.is_empty());
    }
}

#[test]
fn the_same_seed_sells_the_same_and_another_does_not() {
    let season = |seed: u64| days(&Shop::new(seed, 0));
    assert_eq!(season(42), season(42));
    let (one, other) = (season(42), season(43));
    assert!(one.iter().zip(&other).all(|(a, b)| a.id != b.id && a.totals != b.totals || a.sold_at != b.sold_at));
}

#[test]
fn the_bar_sells_after_midnight_and_books_it_on_the_evening() {
    let bar = Shop::new(42, 1);
    let night = day::sales(&bar, date(2026, 11, 20), &rates(42)).unwrap();
    let (first, last) = (night.first().unwrap().sold_at, night.last().unwrap().sold_at);
    assert!(first >= "2026-11-20T21:00:00Z".parse().unwrap(), "opens at 17:00");
    assert!(
        last > "2026-11-21T05:00:00Z".parse().unwrap() && last < "2026-11-21T07:00:00Z".parse().unwrap(),
        "closes at 03:00"
    );
    assert!(night.iter().all(|t| super::rhythm::business_hour(t.sold_at, 4).0 == date(2026, 11, 20)));
}

#[test]
fn payments_as_json_are_what_the_column_says() {
    let tickets = days(&Shop::new(42, 0));
    for ticket in &tickets {
        let json: serde_json::Value = serde_json::from_str(&ticket.payment.to_jsonb().0).unwrap();
        let tenders = json["tenders"].as_array().unwrap();
        let method = if tenders.len() == 1 { tenders[0]["method"].as_str().unwrap() } else { "mixed" };
        assert_eq!(json["method"], method);
        assert_eq!(json.get("change").is_some(), ticket.payment.change.is_some());
        assert!(
            serde_json::from_str::<serde_json::Value>(&ticket.totals.to_jsonb().0).unwrap()["total_usd"].is_number()
        );
    }
}

#[test]
fn arguments_are_read_or_refused() {
    assert_eq!((parse_days("90d"), parse_days("0")), (Ok(90), Ok(0)));
    assert!(["", "d", "-1d", "9w", "3651d", "1e3"].iter().all(|text| parse_days(text).is_err()));
    assert_eq!(parse_duration("5m"), Ok(Lasting(Some(Duration::from_secs(300)))));
    assert_eq!(parse_duration("forever"), Ok(Lasting(None)));
    assert!(["", "s", "0s", "5", "-5s", "ños", "5d"].iter().all(|text| parse_duration(text).is_err()));
    assert!(
        parse_rate("0.5").is_ok()
            && ["-1", "NaN", "inf", "5001", "1e-300", ""].iter().all(|text| parse_rate(text).is_err())
    );
}

proptest! {
    #[test]
    fn any_basket_at_any_rate_adds_up(
        basket in prop::collection::vec((1_i64..500_000, 1_i64..60, any::<bool>(), any::<bool>(), 0_u32..=100), 1..30),
        rate in 10_000_i64..100_000_000_000,
        chance in any::<u64>(),
    ) {
        let rate = Decimal::new(rate, 4);
        let lines: Vec<Line> = basket
            .into_iter()
            .map(|(cents, units, weighed, taxed, percent)| {
                let (price, qty) = if weighed {
                    (money::price_by_weight(Decimal::new(cents * 20, 2), rate), Decimal::new(units * 5, 2))
                } else {
                    (money::at_rate(Decimal::new(cents, 2), rate), Decimal::from(units))
                };
                Line { product: 0, qty, price, discount: Both::default(), cost: Both::default(), taxed }.discounted(percent)
            })
            .collect();
        let totals = money::totals(&lines);
        let payment = Payment::draw(&mut seed::rng(chance, "payment"), &totals, rate);
        for line in &lines {
            prop_assert_eq!(line.gross(), line.gross().map(money::cents));
        }
        let total = Both { usd: totals.usd.total(), bs: totals.bs.total() };
        prop_assert_eq!(sum(payment.rows().map(|tender| tender.worth)), total);
        let back: Vec<Line> = lines.iter().map(Line::returned).collect();
        let returned = money::totals(&back);
        prop_assert_eq!((returned.usd.total(), returned.bs.total()), (-total.usd, -total.bs));
        let refund = Payment::refund(&payment, "1", &returned);
        prop_assert_eq!(sum(refund.rows().map(|tender| tender.worth)), -total);
    }
}
