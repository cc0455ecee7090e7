//! Reading a request strictly: every parameter known, given once and well-formed, or a 400 that names them all.

use super::access::Principal;
use super::problem::{FieldError, Problem};
use crate::read::{DateRange, Grain, ReadError};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use jiff::ToSpan;
use jiff::civil::{Date, date};
use std::str::FromStr;
use uuid::Uuid;

/// Dates that make sense in a shop's books.
const FIRST_DATE: Date = date(1900, 1, 1);
const LAST_DATE: Date = date(2999, 12, 31);

/// `{id}` of the path: a shop that the caller may see. One that it may not is unknown to it.
pub struct StoreId(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for StoreId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await.map(|Path(text)| text).unwrap_or_default();
        let principal = Principal::from_request_parts(parts, state).await?;
        let id = uuid(&text).map_err(|detail| Problem::invalid(vec![FieldError::new("id", detail)]))?;
        if principal.stores.holds(id) { Ok(Self(id)) } else { Err(ReadError::UnknownStore(id).into()) }
    }
}

/// The query string. Take each parameter by its name, then `finish`.
pub struct Params {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map(|Query(pairs)| pairs)
            .map_err(|error| Problem::invalid(vec![FieldError::new("query", error.to_string())]))?;
        Ok(Self { pairs, known: Vec::new(), errors: Vec::new() })
    }
}

impl Params {
    /// The parameter's value where it is given and well-formed; what is wrong with it is kept for `finish`.
    pub fn take<T>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.known.push(name);
        let mut values = self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = values.next()?;
        if values.next().is_some() {
            self.errors.push(FieldError::new(name, "is given more than once"));
            return None;
        }
        parse(value).map_err(|detail| self.errors.push(FieldError::new(name, detail))).ok()
    }

    /// Refuses what `take` found wrong and every parameter it was not asked for.
    pub fn finish(mut self) -> Result<(), Problem> {
        let known = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
        for (key, _) in &self.pairs {
            if !self.known.contains(&key.as_str()) {
                let key: String = key.chars().take(60).collect();
                self.errors.push(FieldError::new(key, format!("is not a parameter of this route; it takes {known}")));
            }
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

pub fn uuid(text: &str) -> Result<Uuid, String> {
    // The other spellings that the parser knows (braces, urn:) would give one shop several addresses.
    let plain = text.len() == 36;
    Uuid::try_parse(text)
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| "must be a UUID, like 00000000-0000-0000-0000-000000000000".to_owned())
}

pub fn day(text: &str) -> Result<Date, String> {
    // The parser also takes 20260730 and times after the date.
    let plain = text.len() == 10
        && text.bytes().enumerate().all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() });
    let parsed = if plain { Date::from_str(text).ok() } else { None };
    match parsed {
        None => Err("must be a date, as YYYY-MM-DD".to_owned()),
        Some(day) if day < FIRST_DATE || day > LAST_DATE => {
            Err(format!("must be between {FIRST_DATE} and {LAST_DATE}"))
        }
        Some(day) => Ok(day),
    }
}

pub fn one_of<T: FromStr>(choices: &'static str) -> impl FnOnce(&str) -> Result<T, String> {
    move |text| text.parse().map_err(|_| format!("must be one of {choices}"))
}

pub fn up_to(max: u16) -> impl FnOnce(&str) -> Result<u16, String> {
    move |text| {
        let plain = text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|n| plain && (1..=max).contains(n));
        number.ok_or_else(|| format!("must be a whole number from 1 to {max}"))
    }
}

/// The range asked for: `to` defaults to the shop's today, `from` to what `default_from` makes of `to`.
pub fn range(
    from: Option<Date>,
    to: Option<Date>,
    today: Date,
    max_days: i64,
    default_from: impl FnOnce(Date) -> Date,
) -> Result<DateRange, Problem> {
    let to = to.unwrap_or(today);
    let range = DateRange { from: from.unwrap_or_else(|| default_from(to)), to };
    let refuse = |detail| Err(Problem::invalid(vec![FieldError::new("from", detail)]));
    if range.from > range.to {
        return refuse(format!("must not be after `to`, {to}"));
    }
    if range.days() > max_days {
        return refuse(format!("the range may span {max_days} days at most; this one spans {}", range.days()));
    }
    Ok(range)
}

/// Where a series that ends on `to` begins by default: its day's hours, 30 days, 12 whole weeks or 12 whole months.
pub fn default_from(grain: Grain, to: Date) -> Date {
    match grain {
        Grain::Hour => to,
        Grain::Day => to.saturating_sub(29.days()),
        Grain::Week => to.saturating_sub((i64::from(to.weekday().to_monday_zero_offset()) + 7 * 11).days()),
        Grain::Month => to.first_of_month().saturating_sub(11.months()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_strict() {
        assert_eq!(day("2024-02-29"), Ok(date(2024, 2, 29)));
        for bad in [
            "",
            "2023-02-29",
            "20240229",
            "2024-2-9",
            "2024-02-29T00:00",
            "+024-02-01",
            "1899-12-31",
            "3000-01-01",
            "0000-00-00",
            "hoy",
            "２０２４-02-29",
        ] {
            assert!(day(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn uuids_are_strict() {
        assert!(uuid("00000000-0000-0000-0000-000000000001").is_ok());
        for bad in [
            "",
            "1",
            "00000000000000000000000000000001",
            "{00000000-0000-0000-0000-000000000001}",
            "0000000-00000-0000-0000-000000000001",
        ] {
            assert!(uuid(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_are_bounded() {
        assert_eq!(up_to(100)("100"), Ok(100));
        for bad in ["0", "101", "-1", "+5", "1.5", "", "99999999999"] {
            assert!(up_to(100)(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_count_both_ends_and_are_bounded() {
        let today = date(2026, 7, 30);
        let of = |from, to| range(from, to, today, 31, |to| default_from(Grain::Day, to));
        assert_eq!(of(None, None).map(|r| (r.from, r.to, r.days())).ok(), Some((date(2026, 7, 1), today, 30)));
        assert_eq!(of(Some(today), Some(today)).map(DateRange::days).ok(), Some(1));
        assert_eq!(of(Some(date(2026, 6, 30)), None).map(DateRange::days).ok(), Some(31));
        assert!(of(Some(date(2026, 6, 29)), None).is_err());
        assert!(of(Some(date(2026, 7, 31)), None).is_err());
        assert!(of(Some(FIRST_DATE), Some(LAST_DATE)).is_err());
        assert!(of(None, Some(FIRST_DATE)).is_ok());
    }

    #[test]
    fn default_series_begin_with_a_whole_period() {
        let to = date(2026, 7, 30); // a Thursday
        assert_eq!(default_from(Grain::Hour, to), to);
        assert_eq!(default_from(Grain::Day, to), date(2026, 7, 1));
        assert_eq!(default_from(Grain::Week, to), date(2026, 5, 11));
        assert_eq!(default_from(Grain::Week, to).weekday(), jiff::civil::Weekday::Monday);
        assert_eq!(default_from(Grain::Month, to), date(2025, 8, 1));
        assert_eq!(default_from(Grain::Month, date(2026, 7, 31)), date(2025, 8, 1));
    }
}
