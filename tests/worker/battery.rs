//! Three workers as processes, stopped and killed at random while the clock jumps, over days on which clocks change.

use crate::common::Db;
use crate::{EFFECT, SEEN, job, stage, text, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pulso::worker::{self, Clock, Options};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// It runs, so that leases end, and it can be set.
const CLOCK: &str = "select base + (clock_timestamp() - since) from public.running";
const URL: &str = "PULSO_TEST_BATTERY";

/// No test: one of the workers, in a process that the battery may stop and kill.
#[tokio::test]
#[ignore = "a worker of the battery, which starts it"]
async fn a_worker_of_the_battery() {
    let Ok(url) = std::env::var(URL) else { return };
    let clock = Clock(CLOCK.to_owned());
    worker::run(Options { clock, concurrency: 6, ..Options::new(&url) }, CancellationToken::new()).await;
}

/// Ends with the test, whatever its end is.
struct Process(Child);

impl Process {
    fn start(db: &Db) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "battery::a_worker_of_the_battery"])
            .env(URL, db.url())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From the start of `from` to half a minute into `to`, both of UTC; `most` seconds at most.
async fn misses_nothing(from: &str, to: &str, slots: i64, most: u64) {
    let (db, sql) = stage(&format!("{from}T00:00:00Z")).await;
    sql.batch_execute(
        "create table public.running as select now as base, clock_timestamp() as since from public.clock",
    )
    .await
    .unwrap();
    // Now and then a run takes a while, so that what is killed is in the middle of something.
    let slow = EFFECT.replace("values (", "select ");
    let slow =
        slow.replace("::timestamptz)", "::timestamptz from pg_sleep(case when random() < 0.1 then 0.2 else 0 end)");
    for name in ["one", "two", "three", "four"] {
        job(&sql, name, "every 2h", "UTC", "all", &slow).await;
    }
    // New York skips 02:00 to 03:00 in March and has 01:00 to 02:00 twice in November.
    job(&sql, "skipped", "daily 02:30", "America/New_York", "all", &slow).await;
    job(&sql, "twice", "daily 01:30", "America/New_York", "all", &slow).await;
    sql.batch_execute("update pulso.job set lease_seconds = 2, max_attempts = 100").await.unwrap();
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut workers: Vec<Process> = (0..3).map(|_| Process::start(&db)).collect();
    until(&sql, SEEN, "0").await;

    let end = format!("{to}T00:00:30Z");
    let behind = format!("select (min(next_slot) <= '{end}')::text from pulso.job");
    let set = "update public.running set base = least(base + (clock_timestamp() - since) + make_interval(secs => $1), $2::text::timestamptz), since = clock_timestamp()";
    let there = format!("select (({CLOCK}) >= '{end}')::text");
    let (mut stops, mut kills, mut ahead, mut back, mut arrived) = (0, 0, 0, 0, false);
    let mut first = [9, 2, 4, 0].into_iter();
    let began = Instant::now();
    let share = 86_400.0 * f64::from(u32::try_from(slots / 50 / 15).unwrap().max(1));
    while text(&sql, &behind).await == "true" {
        assert!(
            began.elapsed() < Duration::from_secs(most),
            "not through: {}",
            text(&sql, "select string_agg(name || ' ' || next_slot, ', ') from pulso.job").await
        );
        sleep(Duration::from_millis(random.random_range(50..600))).await;
        let which = random.random_range(0..3);
        // Each of them once, then by chance.
        let what = first.next().unwrap_or_else(|| random.random_range(0..10));
        match what {
            0..=1 => {
                workers[which] = Process::start(&db);
                kills += 1;
            }
            2..=3 => {
                workers[which].signal(Signal::SIGSTOP);
                // Beyond the lease, half of the time.
                sleep(Duration::from_millis(random.random_range(100..4000))).await;
                workers[which].signal(Signal::SIGCONT);
                stops += 1;
            }
            // At the end the clock runs on as it is, so that the last leases end.
            _ if arrived || text(&sql, &there).await == "true" => arrived = true,
            4 => {
                // A lease that was taken ends when the clock is there again.
                sql.execute(set, &[&-random.random_range(1.0..3.0 * 3600.0), &end]).await.unwrap();
                back += 1;
            }
            _ => {
                sql.execute(set, &[&random.random_range(60.0..share), &end]).await.unwrap();
                ahead += 1;
            }
        }
    }
    let took = began.elapsed();
    sql.batch_execute("update pulso.job set paused = true").await.unwrap();
    drop(workers);
    let outcomes = "select string_agg(outcome || ' ' || n, ', ' order by outcome) from (select outcome, count(*) as n from pulso.job_run group by 1) x";
    let effects = text(&sql, "select count(*)::text from public.effects").await;
    println!(
        "{effects} slots in {} s; {stops} stops, {kills} kills, {ahead} jumps ahead, {back} back; runs: {}",
        took.as_secs(),
        text(&sql, outcomes).await
    );
    assert!(stops > 0 && kills > 0 && ahead > 0 && back > 0);

    let doubled = "select count(*)::text from (select from public.effects group by job, slot having count(*) > 1) x";
    assert_eq!(text(&sql, doubled).await, "0", "doubled");
    // What there should be, by Postgres's own calendar: a time that is skipped comes an hour later, one that is there twice counts the first time.
    let wanted = format!(
        "create temp table wanted as
         select j.job, s as slot
           from unnest('{{one,two,three,four}}'::text[]) j (job), generate_series('{from}T02:00:00Z'::timestamptz, '{end}', '2 hours') s
          union all
         select 'skipped', (d + time '02:30') at time zone 'America/New_York'
           from generate_series('{from}'::timestamp, '{to}'::timestamp - interval '1 day', '1 day') d
          union all
         select 'twice', case when d::date = '2026-11-01' then '2026-11-01T05:30:00Z' else (d + time '01:30') at time zone 'America/New_York' end
           from generate_series('{from}'::timestamp, '{to}'::timestamp - interval '1 day', '1 day') d"
    );
    sql.batch_execute(&wanted).await.unwrap();
    let differ = "select string_agg(x::text, ' ') from (
                    (select 'missed', w.* from wanted w except select 'missed', e.* from public.effects e) union all
                    (select 'not due', e.* from public.effects e except select 'not due', w.* from wanted w) limit 20) x";
    assert_eq!(text(&sql, differ).await, "");
    assert_eq!(effects, text(&sql, "select count(*)::text from wanted").await);
    assert!(effects.parse::<i64>().unwrap() >= slots, "{effects}");
}

#[tokio::test]
async fn workers_that_are_stopped_and_killed_while_the_clock_jumps_run_each_slot_once() {
    // The day on which an hour comes twice.
    misses_nothing("2026-10-28", "2026-11-04", 300, 300).await;
}

#[tokio::test]
async fn ten_thousand_slots_over_both_changes_of_clocks_are_each_run_once() {
    if crate::common::long() {
        misses_nothing("2026-03-01", "2026-11-10", 10_000, 1500).await;
    }
}
