//! The dashboards as lines of text.

use super::format::{Lang, columns, plain};
use crate::read::{Dashboard, Money, Number};
use comfy_table::{Cell, CellAlignment, Color, Table, presets};
use rust_decimal::Decimal;
use std::str::FromStr;

#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub lang: Lang,
    pub color: bool,
}

fn table(style: Style) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if style.color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

fn right(text: impl Into<String>) -> Cell {
    Cell::new(text.into()).set_alignment(CellAlignment::Right)
}

fn change(style: Style, value: Option<&Number>) -> Cell {
    let text = value.map(Number::as_str);
    let cell = right(style.lang.percent(text));
    match text.and_then(|t| Decimal::from_str(t).ok()) {
        Some(n) if n > Decimal::ZERO => cell.fg(Color::Green),
        Some(n) if n < Decimal::ZERO => cell.fg(Color::Red),
        _ => cell,
    }
}

fn lines(table: &Table) -> impl Iterator<Item = String> {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().into_iter()
}

/// One shop's day.
pub fn one(day: &Dashboard, style: Style) -> Vec<String> {
    let lang = style.lang;
    let state = if day.in_progress { lang.of("en curso", "in progress") } else { lang.of("cerrado", "closed") };
    let mut out =
        vec![format!("{} · {} · {state}", plain(&day.store_name, 40), lang.date(day.business_date)), String::new()];
    out.extend(lines(&amounts(day, style)));
    out.push(String::new());
    let per_ticket = day.items_per_ticket.as_ref().map_or("—".to_owned(), |n| lang.number(n.as_str(), 1));
    out.push(format!(
        " {} {}   {} {}   {} {}   {} {}",
        lang.of("Artículos", "Items"),
        lang.number(day.items_sold.as_str(), 0),
        lang.of("por ticket", "per ticket"),
        per_ticket,
        lang.of("Clientes con nombre", "Named customers"),
        lang.number(&day.unique_customers.to_string(), 0),
        lang.of("Devoluciones", "Returns"),
        lang.number(&day.returns_count.to_string(), 0),
    ));
    if !day.payment_mix.is_empty() {
        out.push(String::new());
        out.extend(lines(&tenders(day, style)));
    }
    out.push(String::new());
    out.extend(hours(day, lang));
    out
}

fn amounts(day: &Dashboard, style: Style) -> Table {
    let lang = style.lang;
    let mut table = table(style);
    // A day under way is less than a whole one until it closes; the heading says what it is compared with.
    table.set_header(vec![
        Cell::new(""),
        right("Bs"),
        right("USD"),
        right(lang.of("ayer entero", "all yesterday")),
        right(lang.of("hace 7 días", "7 days ago")),
    ]);
    let money = |label: &str, bs: &Money, usd: &Money| {
        vec![Cell::new(label), right(lang.number(bs.as_str(), 2)), right(lang.number(usd.as_str(), 2))]
    };
    let (y, w) = (&day.yesterday.change_percent, &day.last_week.change_percent);
    let mut net = money(lang.of("Ventas netas", "Net sales"), &day.net_bs, &day.net_usd);
    net.extend([change(style, y.net_usd.as_ref()), change(style, w.net_usd.as_ref())]);
    table.add_row(net);
    let ticket = |money: &Option<Money>| right(money.as_ref().map_or("—".to_owned(), |m| lang.number(m.as_str(), 2)));
    let label = Cell::new(lang.of("Ticket promedio", "Average ticket"));
    let mut ticket = vec![label, ticket(&day.avg_ticket_bs), ticket(&day.avg_ticket_usd)];
    ticket.extend([change(style, y.avg_ticket_usd.as_ref()), change(style, w.avg_ticket_usd.as_ref())]);
    table.add_row(ticket);
    table.add_row(vec![
        Cell::new(lang.of("Ventas (tickets)", "Sales (tickets)")),
        right(lang.number(&day.sales_count.to_string(), 0)),
        Cell::new(""),
        change(style, y.sales_count.as_ref()),
        change(style, w.sales_count.as_ref()),
    ]);
    for (label, bs, usd) in [
        (lang.of("Ventas brutas", "Gross sales"), &day.gross_bs, &day.gross_usd),
        (lang.of("Descuentos", "Discounts"), &day.discounts_bs, &day.discounts_usd),
        (lang.of("Devoluciones", "Returns"), &day.returns_bs, &day.returns_usd),
        (lang.of("Impuestos", "Tax"), &day.tax_bs, &day.tax_usd),
        (lang.of("Total cobrado", "Total collected"), &day.total_bs, &day.total_usd),
    ] {
        table.add_row(money(label, bs, usd));
    }
    table
}

fn tenders(day: &Dashboard, style: Style) -> Table {
    let lang = style.lang;
    let mut table = table(style);
    let heads = [lang.of("ventas", "sales"), "Bs", "USD", "%"];
    table.set_header(std::iter::once(Cell::new(lang.of("Formas de pago", "Payments"))).chain(heads.map(right)));
    let total = decimal(&day.total_usd);
    for tender in &day.payment_mix {
        let share = decimal(&tender.amount_usd)
            .zip(total)
            .and_then(|(part, all)| (part * Decimal::ONE_HUNDRED).checked_div(all));
        table.add_row(vec![
            Cell::new(lang.tender(tender.method.as_deref())),
            right(lang.number(&tender.sales_count.to_string(), 0)),
            right(lang.number(tender.amount_bs.as_str(), 2)),
            right(lang.number(tender.amount_usd.as_str(), 2)),
            right(share.map_or("—".to_owned(), |s| lang.number(&s.to_string(), 1))),
        ]);
    }
    table
}

fn decimal(money: &Money) -> Option<Decimal> {
    Decimal::from_str(money.as_str()).ok()
}

/// Net sales in dollars hour by hour, the first hour of the business day at the left.
fn hours(day: &Dashboard, lang: Lang) -> Vec<String> {
    let hour_of = |text: &str| text.get(11..13).and_then(|h| h.parse::<usize>().ok());
    // A day that starts at midnight begins with 0; a bar's begins with its first hour sold after the night.
    let date = day.business_date.to_string();
    let night = day.hourly.iter().filter(|h| !h.hour.starts_with(&date)).filter_map(|h| hour_of(&h.hour)).max();
    let first = night.map_or(0, |last| last + 1);
    let mut values = [Decimal::ZERO; 24];
    for hour in &day.hourly {
        if let Some(h) = hour_of(&hour.hour).filter(|h| *h < 24) {
            values[(h + 24 - first) % 24] += decimal(&hour.net_usd).unwrap_or_default();
        }
    }
    let peak = values.iter().copied().max().unwrap_or_default();
    let title = format!(
        " {} · {} {}",
        lang.of("Ventas netas por hora, USD", "Net sales by hour, USD"),
        lang.of("máximo", "peak"),
        lang.number(&peak.to_string(), 2)
    );
    if peak <= Decimal::ZERO {
        return vec![title];
    }
    let thousandths =
        values.map(|v| u32::try_from((v.max(Decimal::ZERO) * Decimal::ONE_THOUSAND / peak).ceil()).unwrap_or(0));
    let mut out = vec![title];
    out.extend(columns(&thousandths, 4, 3).into_iter().map(|line| format!(" {line}")));
    let labels: String = (0..24).map(|i| format!("{:02} ", (i + first) % 24)).collect();
    out.push(format!(" {}", labels.trim_end()));
    out
}

/// Several shops, one line each, and what they make together.
pub fn several(days: &[Dashboard], style: Style) -> Vec<String> {
    let lang = style.lang;
    let mut table = table(style);
    let heads = [
        lang.of("ventas", "sales"),
        lang.of("netas Bs", "net Bs"),
        lang.of("netas USD", "net USD"),
        lang.of("ticket USD", "ticket USD"),
        lang.of("ayer entero", "all yesterday"),
        lang.of("hace 7 días", "7 days ago"),
    ];
    let dates: Vec<_> = days.iter().map(|day| day.business_date).collect();
    let same = dates.windows(2).all(|pair| pair[0] == pair[1]);
    table.set_header(std::iter::once(Cell::new(lang.of("Tienda", "Store"))).chain(heads.map(right)));
    for day in days {
        let name = if same {
            plain(&day.store_name, 28)
        } else {
            format!("{} ({})", plain(&day.store_name, 20), day.business_date)
        };
        table.add_row(vec![
            Cell::new(name),
            right(lang.number(&day.sales_count.to_string(), 0)),
            right(lang.number(day.net_bs.as_str(), 2)),
            right(lang.number(day.net_usd.as_str(), 2)),
            right(day.avg_ticket_usd.as_ref().map_or("—".to_owned(), |m| lang.number(m.as_str(), 2))),
            change(style, day.yesterday.change_percent.net_usd.as_ref()),
            change(style, day.last_week.change_percent.net_usd.as_ref()),
        ]);
    }
    let sum = |pick: fn(&Dashboard) -> &Money| {
        let total = days.iter().try_fold(Decimal::ZERO, |sum, day| decimal(pick(day)).and_then(|d| sum.checked_add(d)));
        total.map_or("—".to_owned(), |total| lang.number(&total.to_string(), 2))
    };
    let sales: i64 = days.iter().map(|day| day.sales_count).sum();
    table.add_row(vec![
        Cell::new(lang.of("En total", "Together")),
        right(lang.number(&sales.to_string(), 0)),
        right(sum(|day| &day.net_bs)),
        right(sum(|day| &day.net_usd)),
    ]);
    let mut out = Vec::new();
    if let Some(date) = dates.first().filter(|_| same) {
        out.extend([lang.date(*date), String::new()]);
    }
    out.extend(lines(&table));
    out
}
