use super::*;
use proptest::prelude::*;

fn read(lines: &[String]) -> Result<Book> {
    let file = format!("{}\n{}\n", rows::COLUMNS.join(","), lines.join("\n"));
    let rows = Rows::from_reader("retail.csv".into(), Box::new(std::io::Cursor::new(file.into_bytes())))?;
    Ok(Book::from_rows(rows, &CancellationToken::new())?.expect("not cancelled"))
}

#[allow(clippy::too_many_arguments, reason = "they are the columns of the file")]
fn line(
    invoice: &str,
    sku: &str,
    name: &str,
    qty: i64,
    time: &str,
    price: &str,
    customer: &str,
    country: &str,
) -> String {
    format!("{invoice},{sku},{name},{qty},2011-05-05 {time},{price},{customer},{country}")
}

#[test]
fn an_invoice_is_one_sale_with_its_lines_in_file_order() {
    let book = read(&[
        line("536365", "A", "ONE", 6, "08:27:00", "2.55", "17850.0", "United Kingdom"),
        line("C1", "A", "", -1, "08:26:00", "0.001", "", "EIRE"),
        line("536365", "B", "TWO", 2, "08:26:00", "1.105", "17850.0", "United Kingdom"),
        line("536365", "A", "ONE", 6, "08:26:00", "2.55", "17850.0", "United Kingdom"),
        line("A2", "B", "", 1, "08:26:00", "-11062.06", "", "EIRE"),
    ])
    .unwrap();
    assert_eq!(
        book.sales.iter().map(|s| (s.number.as_str(), s.kind, s.lines.len())).collect::<Vec<_>>(),
        [("536365", Kind::Sale, 3), ("C1", Kind::Return, 1), ("A2", Kind::Adjustment, 1),]
    );
    let sale = &book.sales[0];
    assert_eq!(sale.sold_at.to_string(), "2011-05-05T08:26:00Z", "the earliest of its lines");
    assert_eq!(
        sale.totals().to_jsonb().0,
        r#"{"gross_bs":1197.5650,"discount_bs":0,"tax_bs":0,"total_bs":1197.5650,"gross_usd":32.810,"discount_usd":0,"tax_usd":0,"total_usd":32.810,"items":14}"#
    );
    assert_eq!(book.stores.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["United Kingdom", "EIRE"]);
    assert_eq!(book.products.len(), 4, "a product belongs to one store");
    assert_eq!(book.customers[0].document, "17850");
    let ids: std::collections::HashSet<Uuid> = (1..=3).map(|n| sale.line_id(n)).collect();
    assert_eq!(ids.len(), 3, "equal lines have ids of their own");
}

#[test]
fn the_latest_description_wins() {
    let named = |lines: &[String]| read(lines).unwrap().products[0].name.clone();
    let at = |time: &str, name: &str| line(&format!("1{}", time.replace(':', "")), "A", name, 1, time, "1", "", "EIRE");
    assert_eq!(named(&[at("08:00:00", "OLD"), at("09:00:00", "NEW")]).as_deref(), Some("NEW"));
    assert_eq!(named(&[at("09:00:00", "NEW"), at("08:00:00", "OLD")]).as_deref(), Some("NEW"));
    assert_eq!(named(&[at("09:00:00", "FIRST"), at("09:00:00", "SECOND")]).as_deref(), Some("SECOND"));
    assert_eq!(named(&[at("08:00:00", "OLD"), at("09:00:00", "")]).as_deref(), Some("OLD"));
    assert_eq!(named(&[at("08:00:00", "")]), None);
}

#[test]
fn an_invoice_of_two_countries_or_customers_is_refused() {
    let complaint = |second: String| {
        let first = line("7", "A", "ONE", 1, "08:00:00", "1", "17850.0", "EIRE");
        read(&[first, second]).expect_err("the invoice contradicts itself").to_string()
    };
    assert_eq!(
        complaint(line("7", "A", "ONE", 1, "08:00:00", "1", "17850.0", "France")),
        r#"retail.csv:3:8: Country: found "France", expected "EIRE", the country of the invoice's first line (7)"#
    );
    assert_eq!(
        complaint(line("7", "A", "ONE", 1, "08:00:00", "1", "1.0", "EIRE")),
        r#"retail.csv:3:7: CustomerID: found "1", expected "17850", the customer of the invoice's first line (7)"#
    );
    assert_eq!(
        complaint(line("7", "A", "ONE", 1, "08:00:00", "1", "", "EIRE")),
        r#"retail.csv:3:7: CustomerID: found "", expected "17850", the customer of the invoice's first line (7)"#
    );
}

#[test]
fn an_invoice_beyond_exact_arithmetic_is_refused() {
    let message = read(&[line("7", "A", "ONE", 99_999_999_999, "08:00:00", "999999999999.999", "", "EIRE")])
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("retail.csv:2:6: UnitPrice: found \"999999999999.999\", expected an invoice total of"),
        "{message}"
    );
}

#[test]
fn the_same_file_gives_the_same_ids() {
    let file = [line("7", "A", "ONE", 1, "08:00:00", "1", "17850.0", "EIRE")];
    let (one, two) = (read(&file).unwrap(), read(&file).unwrap());
    assert_eq!(
        (one.sales[0].id, one.products[0].id, one.customers[0].id),
        (two.sales[0].id, two.products[0].id, two.customers[0].id)
    );
    // Released: a change here would load every sale twice into a database that has them.
    assert_eq!(one.sales[0].id.to_string(), "886aad5f-728b-53fc-86ce-317134398c7f");
}

proptest! {
    /// Against integers: thousandths of a dollar, and 36.5 times that in ten-thousandths of a bolívar.
    #[test]
    fn totals_are_exact(lines in prop::collection::vec((-99_999_999_i64..99_999_999, -99_999_999_i64..99_999_999), 1..40)) {
        let text: Vec<String> = lines
            .iter()
            .map(|(qty, price)| line("7", "A", "ONE", *qty, "08:00:00", &Decimal::new(*price, 3).to_string(), "", "EIRE"))
            .collect();
        let book = read(&text).unwrap();
        let totals = book.sales[0].totals();
        let thousandths: i128 = lines.iter().map(|(qty, price)| i128::from(*qty) * i128::from(*price)).sum();
        prop_assert_eq!(totals.usd.total(), Decimal::from_i128_with_scale(thousandths, 3));
        prop_assert_eq!(totals.bs.total(), Decimal::from_i128_with_scale(thousandths * 365, 4));
        let by_line: Decimal = book.sales[0].lines.iter().map(|l| l.qty * (l.price * rate())).sum();
        prop_assert_eq!(totals.bs.total(), by_line);
        prop_assert_eq!(totals.items, Decimal::from(lines.iter().map(|(qty, _)| qty).sum::<i64>()));
    }
}
