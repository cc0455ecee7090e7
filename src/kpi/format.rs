//! Numbers, dates and words as people read them, in Spanish or English.

use jiff::civil::{Date, Weekday};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Lang {
    Es,
    En,
}

impl Lang {
    /// English where the environment says English; else Spanish, which most shops speak.
    pub fn from_env() -> Self {
        let set = ["LC_ALL", "LC_MESSAGES", "LANG"]
            .into_iter()
            .find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
        Self::from_locale(set.as_deref().unwrap_or_default())
    }

    fn from_locale(locale: &str) -> Self {
        if locale.starts_with("en") { Self::En } else { Self::Es }
    }

    /// The text in this language.
    pub fn of<'a>(self, es: &'a str, en: &'a str) -> &'a str {
        match self {
            Self::Es => es,
            Self::En => en,
        }
    }

    fn marks(self) -> (char, char) {
        match self {
            Self::Es => ('.', ','),
            Self::En => (',', '.'),
        }
    }

    /// Decimal text with thousands separators, rounded half away from zero to `decimals`. Exact: never a float.
    pub fn number(self, text: &str, decimals: usize) -> String {
        let (thousands, point) = self.marks();
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return text.to_owned(); // NaN, Infinity
        }
        let mut kept: Vec<u8> =
            whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(decimals)).collect();
        if fraction.as_bytes().get(decimals).is_some_and(|b| *b >= b'5') {
            add_one(&mut kept);
        }
        let zero = kept.iter().all(|b| *b == b'0');
        let (whole, fraction) = kept.split_at(kept.len() - decimals);
        let mut out = String::from(if negative && !zero { "-" } else { "" });
        for (i, digit) in whole.iter().enumerate() {
            if i > 0 && (whole.len() - i).is_multiple_of(3) {
                out.push(thousands);
            }
            out.push(char::from(*digit));
        }
        if decimals > 0 {
            out.push(point);
            out.extend(fraction.iter().map(|b| char::from(*b)));
        }
        out
    }

    /// `+12,3 %`; a dash where there is nothing to compare with.
    pub fn percent(self, change: Option<&str>) -> String {
        let Some(text) = change else { return "—".to_owned() };
        let number = self.number(text, 1);
        let zero = number.bytes().all(|b| !b.is_ascii_digit() || b == b'0');
        let sign = if zero || number.starts_with('-') { "" } else { "+" };
        format!("{sign}{number}{}", self.of(" %", "%"))
    }

    /// `sábado 21 nov 2026`
    pub fn date(self, date: Date) -> String {
        const ES: [&str; 12] = ["ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sep", "oct", "nov", "dic"];
        const EN: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = usize::try_from(date.month() - 1).unwrap_or_default();
        let month = self.of(ES[month], EN[month]);
        format!("{} {} {month} {}", self.weekday(date.weekday()), date.day(), date.year())
    }

    pub fn weekday(self, day: Weekday) -> &'static str {
        match day {
            Weekday::Monday => self.of("lunes", "Monday"),
            Weekday::Tuesday => self.of("martes", "Tuesday"),
            Weekday::Wednesday => self.of("miércoles", "Wednesday"),
            Weekday::Thursday => self.of("jueves", "Thursday"),
            Weekday::Friday => self.of("viernes", "Friday"),
            Weekday::Saturday => self.of("sábado", "Saturday"),
            Weekday::Sunday => self.of("domingo", "Sunday"),
        }
    }

    /// What people call a tender; the source's own word where it is not a common one.
    pub fn tender(self, method: Option<&str>) -> String {
        match method {
            None => self.of("sin indicar", "not given"),
            Some("mixed") => self.of("mixto", "mixed"),
            Some("cash_bs") => self.of("efectivo Bs", "cash Bs"),
            Some("cash_usd") => self.of("efectivo USD", "cash USD"),
            Some("cash") => self.of("efectivo", "cash"),
            Some("card") => self.of("tarjeta", "card"),
            Some("debit" | "debit_card") => self.of("débito", "debit card"),
            Some("credit" | "credit_card") => self.of("crédito", "credit card"),
            Some("transfer") => self.of("transferencia", "transfer"),
            Some("pago_movil" | "mobile_payment") => self.of("pago móvil", "mobile payment"),
            Some("zelle") => "Zelle",
            Some(other) => return plain(other, 24),
        }
        .to_owned()
    }
}

fn add_one(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}

/// Text from the database, fit for a terminal: no control characters, at most `max` of the others.
pub fn plain(text: &str, max: usize) -> String {
    let mut clean: String = text.chars().filter(|c| !c.is_control()).take(max + 1).collect();
    if clean.chars().count() > max {
        clean = clean.chars().take(max.saturating_sub(1)).chain(std::iter::once('…')).collect();
    }
    clean
}

/// Columns of eighths, `rows` high, for values from 0 to 1 in thousandths; the top row first.
pub fn columns(thousandths: &[u32], rows: u32, width: usize) -> Vec<String> {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let row = |row: u32| {
        let mut line = String::new();
        for value in thousandths {
            // A sale is seen, however small.
            let height = (value.min(&1000) * rows * 8).div_ceil(1000);
            let eighths = height.saturating_sub(row * 8).min(8) as usize;
            line.extend(std::iter::repeat_n(EIGHTHS[eighths], width.saturating_sub(1)));
            line.push(' ');
        }
        line.trim_end().to_owned()
    };
    (0..rows).rev().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_grouped_and_rounded_without_floats() {
        for (text, decimals, es) in [
            ("0", 2, "0,00"),
            ("0.005", 2, "0,01"),
            ("-0.004", 2, "0,00"),
            ("-0.005", 2, "-0,01"),
            ("999.995", 2, "1.000,00"),
            ("1234567.891", 2, "1.234.567,89"),
            ("-1234.5", 0, "-1.235"),
            ("100", 0, "100"),
            ("1000", 0, "1.000"),
            ("123456789012345678901234567890.125", 2, "123.456.789.012.345.678.901.234.567.890,13"),
            ("NaN", 2, "NaN"),
        ] {
            assert_eq!(Lang::Es.number(text, decimals), es, "{text}");
        }
        assert_eq!(Lang::En.number("1234567.891", 2), "1,234,567.89");
    }

    #[test]
    fn percentages_bear_their_sign() {
        assert_eq!(Lang::Es.percent(Some("12.34")), "+12,3 %");
        assert_eq!(Lang::En.percent(Some("-3")), "-3.0%");
        assert_eq!(Lang::Es.percent(Some("0.0")), "0,0 %");
        assert_eq!(Lang::Es.percent(None), "—");
    }

    #[test]
    fn the_language_follows_the_locale() {
        assert_eq!(Lang::from_locale("en_US.UTF-8"), Lang::En);
        for locale in ["es_VE.UTF-8", "C.UTF-8", ""] {
            assert_eq!(Lang::from_locale(locale), Lang::Es);
        }
    }

    #[test]
    fn dates_are_in_words() {
        assert_eq!(Lang::Es.date(jiff::civil::date(2026, 11, 21)), "sábado 21 nov 2026");
        assert_eq!(Lang::En.date(jiff::civil::date(2026, 1, 5)), "Monday 5 Jan 2026");
    }

    #[test]
    fn columns_show_small_values_and_full_ones() {
        assert_eq!(columns(&[0, 1, 500, 1000], 2, 2), ["      █", "  ▁ █ █"]);
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\n", 10), "a[2Jb");
        assert_eq!(plain("abcdef", 4), "abc…");
    }

    proptest! {
        #[test]
        fn grouping_is_undone_by_removing_the_marks(value: i64, scale in 0_u32..4) {
            let exact = rust_decimal::Decimal::new(value, scale);
            let shown = Lang::En.number(&exact.to_string(), 4).replace(',', "");
            prop_assert_eq!(shown.parse::<rust_decimal::Decimal>().ok(), Some(exact));
        }
    }
}
