//! Bulk load of a year of invoices by `pulso load`, with the rollups in place and with their triggers off.

use crate::Outcome;
use crate::report::{Report, median};
use crate::server;
use pulso::load::online_retail::{self, Mode};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io::{BufWriter, Write};
use std::path::Path;

const INVOICES: u32 = 25_000;
const LINES: u32 = 20;
/// Disables what captures changes, on every table.
const WITHOUT: &str = "
  do $$
  declare one record;
  begin
    for one in select tgrelid::regclass as relation, tgname from pg_trigger where tgname ^@ 'pulso_' and not tgisinternal loop
      execute format('alter table %s disable trigger %I', one.relation, one.tgname);
    end loop;
  end $$";

pub async fn measure(report: &mut Report, rounds: usize) -> Outcome<()> {
    println!("\nBulk load of {} lines", INVOICES * LINES);
    let file = std::env::temp_dir().join(format!("pulso-bench-{}.csv", std::process::id()));
    write_invoices(&file)?;
    let cluster = server::start(&[("synchronous_commit", "off")]).await?;
    let (mut ratios, mut with_seconds) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut seconds = [0.0; 2];
        for (with, seconds) in [false, true].into_iter().zip(&mut seconds) {
            let mut client = server::database(&cluster, &format!("bulk_{round}_{with}"), &[]).await?;
            pulso::migrate::up(&mut client).await?;
            if !with {
                client.batch_execute(WITHOUT).await?;
            }
            client.batch_execute("checkpoint").await?;
            *seconds = online_retail::load(&mut client, &file, Mode::Bulk).await?.seconds;
        }
        ratios.push(seconds[1] / seconds[0]);
        with_seconds.push(seconds[1]);
    }
    std::fs::remove_file(&file)?;
    cluster.stop().await?;
    report.inform(
        "bulk load: lines loaded with rollups",
        f64::from(INVOICES * LINES) / median(&with_seconds),
        "lines/s",
    );
    report.at_most("bulk load: time with rollups against without", median(&ratios), "times", 1.3);
    Ok(())
}

/// Invoices in the columns of the Online Retail data set.
fn write_invoices(path: &Path) -> Outcome<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    writeln!(out, "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country")?;
    for invoice in 0..INVOICES {
        let (day, minute) = (1 + invoice * 28 / INVOICES, rng.random_range(0..600));
        let (customer, country) = (12_000 + rng.random_range(0..4000), rng.random_range(0..38));
        for _ in 0..LINES {
            let product = 20_000 + rng.random_range(0..4000);
            let (quantity, cents) = (rng.random_range(1..24), rng.random_range(10..3000));
            writeln!(
                out,
                "{},{product},PRODUCT {product},{quantity},2011-03-{day:02} {:02}:{:02}:00,{}.{:02},{customer}.0,Country {country}",
                536_000 + invoice,
                8 + minute / 60,
                minute % 60,
                cents / 100,
                cents % 100
            )?;
        }
    }
    out.flush()?;
    Ok(())
}
