use super::*;

const GOOD: &str = "536365,85123A,WHITE HANGING HEART T-LIGHT HOLDER,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom";

/// Reads a file of the header, a good row and `row`, to its end.
fn outcome(row: &[u8]) -> Result<()> {
    let mut file = format!("{}\n{GOOD}\n", COLUMNS.join(",")).into_bytes();
    file.extend_from_slice(row);
    let mut rows = Rows::from_reader("retail.csv".into(), Box::new(std::io::Cursor::new(file)))?;
    while rows.next()?.is_some() {}
    Ok(())
}

fn complaint(row: &str) -> String {
    outcome(row.as_bytes()).expect_err("the row is malformed").to_string()
}

#[test]
fn a_good_row_is_read_exactly() {
    let file = format!("{}\n{GOOD}\nC1,\"a \"\"b\"\"\",,-2,2011-01-31 23:59:59,0.001,,EIRE\n", COLUMNS.join(","));
    let mut rows = Rows::from_reader("retail.csv".into(), Box::new(std::io::Cursor::new(file.into_bytes()))).unwrap();
    let row = rows.next().unwrap().unwrap();
    assert_eq!(
        (row.invoice, row.sku, row.customer, row.country),
        ("536365", "85123A", Some("17850"), "United Kingdom")
    );
    assert_eq!((row.qty, row.price), (Decimal::from(6), Decimal::new(255, 2)));
    assert_eq!(row.sold_at.to_string(), "2010-12-01T08:26:00Z");
    let row = rows.next().unwrap().unwrap();
    assert_eq!((row.sku, row.description, row.customer, row.qty), ("a \"b\"", None, None, Decimal::from(-2)));
    assert!(rows.next().unwrap().is_none());
}

#[test]
fn each_malformed_field_is_named_with_what_was_expected() {
    let cases: &[(&str, &str)] = &[
        (
            ",85123A,X,6,2010-12-01 08:26:00,2.55,17850.0,UK",
            "retail.csv:3:1: InvoiceNo: found \"\", expected an invoice number",
        ),
        (
            "1, ,X,6,2010-12-01 08:26:00,2.55,17850.0,UK",
            "retail.csv:3:2: StockCode: found \" \", expected a stock code",
        ),
        (
            "1,A,X,six,2010-12-01 08:26:00,2.55,,UK",
            "retail.csv:3:4: Quantity: found \"six\", expected a whole number such as 6 or -1",
        ),
        (
            "1,A,X,6.5,2010-12-01 08:26:00,2.55,,UK",
            "retail.csv:3:4: Quantity: found \"6.5\", expected a whole number such as 6 or -1",
        ),
        (
            "1,A,X,100000000000,2010-12-01 08:26:00,2.55,,UK",
            "retail.csv:3:4: Quantity: found \"100000000000\", expected a quantity of at most 11 digits",
        ),
        (
            "1,A,X,6,2010-02-30 08:26:00,2.55,,UK",
            "retail.csv:3:5: InvoiceDate: found \"2010-02-30 08:26:00\", expected a time such as 2010-12-01 08:26:00",
        ),
        (
            "1,A,X,6,12/1/2010 8:26,2.55,,UK",
            "retail.csv:3:5: InvoiceDate: found \"12/1/2010 8:26\", expected a time such as 2010-12-01 08:26:00",
        ),
        (
            "1,A,X,6,2010-12-01 08:26:00,\"2,55\",,UK",
            "retail.csv:3:6: UnitPrice: found \"2,55\", expected a decimal number such as 2.55",
        ),
        (
            "1,A,X,6,2010-12-01 08:26:00,1e5,,UK",
            "retail.csv:3:6: UnitPrice: found \"1e5\", expected a decimal number such as 2.55",
        ),
        (
            "1,A,X,6,2010-12-01 08:26:00,NaN,,UK",
            "retail.csv:3:6: UnitPrice: found \"NaN\", expected a decimal number such as 2.55",
        ),
        (
            "1,A,X,6,2010-12-01 08:26:00,2.5555,,UK",
            "retail.csv:3:6: UnitPrice: found \"2.5555\", expected a price of at most 3 decimals",
        ),
        (
            "1,A,X,6,2010-12-01 08:26:00,1000000000000,,UK",
            "retail.csv:3:6: UnitPrice: found \"1000000000000\", expected a price of at most 12 digits",
        ),
        (
            "1,A,X,6,2010-12-01 08:26:00,2.55,17850.5,UK",
            "retail.csv:3:7: CustomerID: found \"17850.5\", expected a customer number such as 17850.0, or nothing",
        ),
        ("1,A,X,6,2010-12-01 08:26:00,2.55,,", "retail.csv:3:8: Country: found \"\", expected a country"),
        (
            "1,A,X\0Y,6,2010-12-01 08:26:00,2.55,,UK",
            "retail.csv:3:3: Description: found \"X\\0Y\", expected text without NUL characters",
        ),
        (
            "1,A,X,6",
            "retail.csv:3:5: InvoiceDate: found \"4 fields\", expected 8 fields: InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country",
        ),
        (
            "1,A,X,6,2010-12-01 08:26:00,2.55,,UK,more",
            "retail.csv:3:9: beyond the last column: found \"9 fields\", expected 8 fields: InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country",
        ),
    ];
    for (row, expected) in cases {
        assert_eq!(complaint(row), *expected, "row {row:?}");
    }
}

#[test]
fn text_that_is_not_utf8_is_named() {
    let error = outcome(b"1,A,caf\xe9,6,2010-12-01 08:26:00,2.55,,UK").unwrap_err();
    assert_eq!(error.to_string(), "retail.csv:3:3: the text is not UTF-8");
}

#[test]
fn an_open_quote_is_found_where_it_opens() {
    let message = complaint(&format!("1,A,X,6,2010-12-01 08:26:00,2.55,,\"UK\n{}", format!("{GOOD}\n").repeat(9)));
    assert!(message.starts_with("retail.csv:3:8: Country: found \"UK\\n"), "{message}");
    assert!(message.ends_with("is a quote left open?"), "{message}");
}

#[test]
fn a_header_that_is_not_known_is_refused() {
    let refuse = |file: &str| {
        let bytes = Box::new(std::io::Cursor::new(file.as_bytes().to_vec()));
        Rows::from_reader("retail.csv".into(), bytes).err().expect("refused").to_string()
    };
    assert!(refuse("").starts_with("retail.csv:1:1: the file is empty, expected the header InvoiceNo,"));
    assert!(refuse("a,b\n").starts_with("retail.csv:1:1: InvoiceNo: found \"a\", expected the header InvoiceNo,"));
    let renamed = COLUMNS.join(",").replace("StockCode", "Code");
    assert!(refuse(&renamed).starts_with("retail.csv:1:2: StockCode: found \"Code\", expected the header"));
    let short = COLUMNS[..7].join(",");
    assert!(refuse(&short).starts_with("retail.csv:1:8: Country: found \"the end of the header\""));
    let long = format!("{},Extra", COLUMNS.join(","));
    assert!(refuse(&long).starts_with("retail.csv:1:9: beyond the last column: found \"9 fields\""));
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_header() {
    let file = format!("\u{feff}{}\n{GOOD}\n", COLUMNS.join(","));
    let mut rows = Rows::from_reader("retail.csv".into(), Box::new(std::io::Cursor::new(file.into_bytes()))).unwrap();
    assert!(rows.next().unwrap().is_some());
}
