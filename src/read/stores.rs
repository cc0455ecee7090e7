//! Shops.

use super::{ReadError, Reader, as_date, sql};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Serialize;
use tokio_postgres::Row;
use utoipa::ToSchema;
use uuid::Uuid;

/// A shop.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Store {
    pub id: Uuid,
    #[schema(examples("Abasto La Candelaria"))]
    pub name: String,
    /// IANA time zone whose clock dates the sales.
    #[schema(examples("America/Caracas"))]
    pub time_zone: String,
    /// When the business day begins, by the shop's clock: with 04:00, a sale at 03:00 belongs to yesterday.
    #[schema(examples("00:00"), pattern = r"^\d{2}:\d{2}$")]
    pub day_start: String,
    /// The shop's business date now.
    #[serde(serialize_with = "as_date")]
    #[schema(examples("2026-07-30"))]
    pub business_date: Date,
}

impl Store {
    /// The business date at an instant; `None` where this program does not know the time zone.
    pub fn date_at(&self, now: Timestamp) -> Option<Date> {
        let (hours, minutes) = self.day_start.split_once(':')?;
        let start = hours.parse::<i64>().ok()?.hours().minutes(minutes.parse::<i64>().ok()?);
        let clock = now.to_zoned(TimeZone::get(&self.time_zone).ok()?).datetime();
        Some(clock.checked_sub(start).ok()?.date())
    }

    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            time_zone: row.try_get("time_zone")?,
            day_start: row.try_get("day_start")?,
            business_date: row.try_get("business_date")?,
        })
    }
}

/// The name and id of a shop: its place in the list.
pub type Place = (String, Uuid);

/// At most `limit` shops in the order of their names that follow `after`, of `only` where it is given; and the place of the
/// last of them, where more follow.
pub async fn stores(
    client: &Reader,
    only: &Option<Vec<Uuid>>,
    after: Option<Place>,
    limit: u16,
) -> Result<(Vec<Store>, Option<Place>), ReadError> {
    let (name, id) = after.unzip();
    // One more than asked for tells whether there is a next page.
    let rows = client.query(sql!("stores"), &[&name, &id, &(i64::from(limit) + 1), only]).await?;
    let mut stores = rows.iter().map(Store::from_row).collect::<Result<Vec<_>, _>>()?;
    let more = stores.len() > usize::from(limit);
    stores.truncate(usize::from(limit));
    let next = stores.last().filter(|_| more).map(|store| (store.name.clone(), store.id));
    Ok((stores, next))
}

pub async fn store(client: &Reader, id: Uuid) -> Result<Store, ReadError> {
    let sql = sql!("store");
    let row = client.query_opt(sql, &[&id]).await?.ok_or(ReadError::UnknownStore(id))?;
    Ok(Store::from_row(&row)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_business_date_follows_the_shops_clock_and_start_of_day() {
        let shop = |zone: &str, start: &str| Store {
            id: Uuid::nil(),
            name: String::new(),
            time_zone: zone.into(),
            day_start: start.into(),
            business_date: date(2000, 1, 1),
        };
        let at = |text: &str| text.parse::<Timestamp>().expect("a timestamp");
        let bar = shop("America/Caracas", "04:00");
        assert_eq!(bar.date_at(at("2026-07-31T07:59:59Z")), Some(date(2026, 7, 30)));
        assert_eq!(bar.date_at(at("2026-07-31T08:00:00Z")), Some(date(2026, 7, 31)));
        assert_eq!(shop("UTC", "00:00").date_at(at("2026-07-31T00:00:00Z")), Some(date(2026, 7, 31)));
        assert_eq!(shop("Mars/Base", "00:00").date_at(at("2026-07-31T00:00:00Z")), None);
    }
}
