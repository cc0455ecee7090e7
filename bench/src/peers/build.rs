//! `pulso.build` of ten million rows beside the bare query.

use super::figures::Figures;
use crate::{Outcome, server};
use std::time::Instant;

const ROWS: u32 = 10_000_000;
const QUERY: &str =
    "select store, date_trunc('hour', at) as hour, count(*) as n, sum(amount) as total from public.big group by 1, 2";

pub async fn measure(figures: &mut Figures, rounds: usize) -> Outcome<()> {
    println!("\nBuild over {ROWS} rows");
    let cluster = server::start(&[("synchronous_commit", "off")]).await?;
    let table = format!(
        "create extension pulso;
         create table big as select i as id, i % 20 as store, timestamp '2026-01-01' + i * interval '1 second' as at, (i % 1000) * 0.25 as amount
           from generate_series(1, {ROWS}) i"
    );
    let client = server::database(&cluster, "build", &[&table]).await?;
    for _ in 0..rounds {
        let begun = Instant::now();
        // Counted as whole rows: Postgres leaves out the sums that nobody asks for.
        client.query_one(&format!("select count(q) from ({QUERY} offset 0) q"), &[]).await?;
        let bare = begun.elapsed().as_secs_f64();
        client.batch_execute(&format!("select pulso.create_rollup('public.built', $${QUERY}$$, false)")).await?;
        let begun = Instant::now();
        client.batch_execute("select pulso.build('public.built')").await?;
        let build = begun.elapsed().as_secs_f64();
        client.batch_execute("select pulso.drop_rollup('public.built')").await?;
        figures.add("build bare".into(), bare);
        figures.add("build pulso".into(), build);
        figures.add("build ratio".into(), build / bare);
    }
    drop(client);
    Ok(cluster.stop().await?)
}
