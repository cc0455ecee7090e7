//! The SQL of a conversion, made of a table's shape. Nothing here runs anything.

use super::Wanted;
use super::shape::{Index, Sequence, Shape, literal, quote};

/// Where the table to be stands until it is put in its place, and where the one that was waits to be dropped. They bear
/// the name, and their indexes and constraints too, that they have in the end: a change of schema moves all at once.
pub const SHADOW: &str = "pulso_shadow";
pub const REPLACED: &str = "pulso_replaced";

/// A conversion of one table, in one direction.
pub struct Plan<'a> {
    pub shape: &'a Shape,
    pub wanted: &'a Wanted,
    /// What the plain table had and the hypertable cannot have.
    pub originals: Vec<Index>,
    /// Whether a table of keys stands beside the hypertable.
    pub guarded: bool,
    /// Schema of TimescaleDB's functions.
    pub timescale: String,
}

impl Plan<'_> {
    pub fn to_hypertable(&self) -> bool {
        !self.shape.hypertable
    }

    pub fn shadow(&self) -> String {
        format!("{}.{}", quote(SHADOW), quote(&self.shape.table))
    }

    pub fn keys(&self) -> String {
        format!("{}.{}", quote(&self.shape.schema), quote(&format!("{}_keys", self.shape.table)))
    }

    /// The table that others refer to before.
    pub fn referred_before(&self) -> String {
        if self.to_hypertable() { self.shape.name.clone() } else { self.keys() }
    }

    /// The table that others refer to afterwards.
    pub fn referred(&self) -> String {
        if self.to_hypertable() { self.keys() } else { self.shadow() }
    }

    pub fn time(&self) -> String {
        quote(&self.wanted.column)
    }

    /// The function of this table for a purpose.
    pub fn function(&self, purpose: &str) -> String {
        format!("pulso.{}", quote(&format!("{}_{purpose}", self.shape.table)))
    }

    /// Columns that tell a row of the shadow from all others, and the time, by which a row's chunk is found.
    fn matched(&self) -> Vec<String> {
        let primary = match self.to_hypertable() {
            true => self.shape.primary(),
            false => {
                self.originals.iter().find(|index| index.primary).map_or(self.shape.primary(), |index| &index.columns)
            }
        };
        let mut columns: Vec<String> = primary.iter().map(|name| quote(name)).collect();
        if !columns.contains(&self.time()) {
            columns.push(self.time());
        }
        columns
    }

    /// Columns of the primary key of the shadow.
    pub fn key(&self) -> Vec<String> {
        let mut columns = self.matched();
        if !self.to_hypertable()
            && let Some(index) = self.originals.iter().find(|index| index.primary)
        {
            columns = index.columns.iter().map(|name| quote(name)).collect();
        }
        columns
    }

    pub fn list(&self, prefix: &str) -> String {
        self.shape.written().map(|name| format!("{prefix}{}", quote(name))).collect::<Vec<_>>().join(", ")
    }

    /// Makes the shadow, and the table of keys.
    pub fn make(&self) -> String {
        let (shape, shadow) = (self.shape, self.shadow());
        let owner = quote(&shape.owner);
        let mut sql = format!(
            "create schema if not exists {SHADOW};
             comment on schema {SHADOW} is 'Tables that pulso migrate is about to put in the place of others.';
             grant usage, create on schema {SHADOW} to {owner};
             create table {shadow} (like {} including defaults including constraints including generated including identity
               including storage including compression including comments);
             alter table {shadow} owner to {owner};\n",
            shape.name
        );
        sql += &self.grant_nothing();
        if self.to_hypertable() {
            sql += &format!(
                "select {0}.create_hypertable({1}, {0}.by_range({2}, {3}::interval), create_default_indexes => false);\n",
                self.timescale,
                literal(&shadow),
                literal(&self.wanted.column),
                literal(&self.wanted.interval)
            );
        }
        for index in &shape.indexes {
            sql += &self.index(index);
        }
        if !self.to_hypertable() {
            for index in &self.originals {
                sql += &self.as_it_was(index);
            }
        }
        for reference in &shape.references {
            let name = quote(&reference.name);
            sql += &format!(
                "alter table {shadow} add constraint {name} {};\n",
                reference.definition.trim_end_matches(" NOT VALID")
            );
            if let Some(comment) = &reference.comment {
                sql += &format!("comment on constraint {name} on {shadow} is {};\n", literal(comment));
            }
        }
        for saying in &shape.sayings {
            sql += &format!("{};\n", saying.replace("%s", &shadow));
        }
        for statistics in &shape.statistics {
            let name = format!("{SHADOW}.{}", quote(&statistics.name));
            sql += &format!(
                "create statistics {name}{} {shadow};\nalter statistics {name} owner to {owner};\n",
                statistics.definition
            );
            if let Some(target) = statistics.target.filter(|target| *target >= 0) {
                sql += &format!("alter statistics {name} set statistics {target};\n");
            }
            if let Some(comment) = &statistics.comment {
                sql += &format!("comment on statistics {name} is {};\n", literal(comment));
            }
        }
        for sequence in shape.sequences.iter().filter(|sequence| sequence.identity) {
            sql += &self.number_as(sequence);
        }
        if self.to_hypertable() {
            sql += &format!(
                "create trigger \"00_pulso_chunk\" before insert on {shadow} for each row
                   when (current_setting('pulso.make_chunk', true) = 'on') execute function pulso.no_row();\n"
            );
            if self.guarded {
                sql += &self.make_keys();
            }
        }
        sql
    }

    /// Whoever was given what all new tables give (ALTER DEFAULT PRIVILEGES) has it of this one only if the table has it.
    fn grant_nothing(&self) -> String {
        let shadow = self.shadow();
        format!(
            "do $pulso$ declare whose text; begin
               for whose in
                 select distinct case x.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(x.grantee)) end
                   from pg_class c, aclexplode(c.relacl) x where c.oid = {0}::regclass and x.grantee <> c.relowner
               loop
                 execute format('revoke all on {1} from %s', whose);
               end loop;
             end $pulso$;\n",
            literal(&shadow),
            shadow.replace('%', "%%").replace('\'', "''"),
        )
    }

    /// The sequence of an identity column: its name, and what is said of it.
    fn number_as(&self, sequence: &Sequence) -> String {
        let (shadow, name) = (self.shadow(), format!("{SHADOW}.{}", quote(&sequence.name)));
        let mut sql = format!(
            "do $pulso$ begin
               if pg_get_serial_sequence({0}, {1})::regclass is distinct from to_regclass({2}) then
                 execute format('alter sequence %s rename to %I', pg_get_serial_sequence({0}, {1}), {3});
               end if;
             end $pulso$;\n",
            literal(&shadow),
            literal(&sequence.column),
            literal(&name),
            literal(&sequence.name),
        );
        for saying in &sequence.sayings {
            sql += &format!("{};\n", saying.replace("%s", &name));
        }
        sql
    }

    /// An index of the table that is, for the one to be.
    fn index(&self, index: &Index) -> String {
        let kept = !index.unique || index.columns.contains(&self.wanted.column);
        if self.to_hypertable() && !kept {
            // Kept in the table of keys. Look-ups go by it still, but for those that the primary key serves.
            let whole = self.shape.primary().iter().all(|name| index.columns.contains(name)) && !index.primary;
            if whole {
                return String::new();
            }
            let mut columns: Vec<String> = index.columns.iter().map(|name| quote(name)).collect();
            columns.push(self.time());
            let included = index.included.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
            let included = if included.is_empty() { included } else { format!(" include ({included})") };
            let what = format!("({}){included}{}", columns.join(", "), index.options);
            let (name, shadow) = (quote(&index.name), self.shadow());
            let made = match (index.primary, &index.constraint) {
                (true, _) => format!("alter table {shadow} add constraint {name} primary key {what};\n"),
                (_, Some(_)) => format!("alter table {shadow} add constraint {name} unique {what};\n"),
                _ => format!("create unique index {name} on {shadow} {what};\n"),
            };
            return made + &self.clustered(index);
        }
        if !self.to_hypertable() && self.originals.iter().any(|original| original.name == index.name) {
            return String::new();
        }
        self.as_it_was(index)
    }

    fn as_it_was(&self, index: &Index) -> String {
        let (name, shadow) = (quote(&index.name), self.shadow());
        let mut sql = match &index.constraint {
            Some(definition) => format!("alter table {shadow} add constraint {name} {definition};\n"),
            None => format!(
                "{};\n",
                index.definition.replacen(&format!(" ON {} ", self.shape.name), &format!(" ON {shadow} "), 1)
            ),
        };
        if let Some(comment) = &index.comment {
            sql += &match &index.constraint {
                Some(_) => format!("comment on constraint {name} on {shadow} is {};\n", literal(comment)),
                None => format!("comment on index {SHADOW}.{name} is {};\n", literal(comment)),
            };
        }
        sql + &self.clustered(index)
    }

    fn clustered(&self, index: &Index) -> String {
        match index.clustered {
            true => format!("alter table {} cluster on {};\n", self.shadow(), quote(&index.name)),
            false => String::new(),
        }
    }

    /// Lets each change of the table that is happen in the shadow too, in the same transaction.
    pub fn mirror(&self) -> String {
        let (shape, shadow, name) = (self.shape, self.shadow(), &self.shape.name);
        let function = format!("{SHADOW}.{}", quote(&format!("mirror_{}", shape.table)));
        let matched = self.matched();
        let is_old =
            matched.iter().map(|column| format!("t.{column} = old.{column}")).collect::<Vec<_>>().join(" and ");
        let set =
            |row: &str| shape.set().map(|name| format!("{0} = {row}.{0}", quote(name))).collect::<Vec<_>>().join(", ");
        let key_moves = match self.to_hypertable() && !self.guarded {
            // Between chunks a row is only moved by taking it out and putting it in.
            true => matched
                .iter()
                .map(|column| format!("old.{column} is distinct from new.{column}"))
                .collect::<Vec<_>>()
                .join(" or "),
            false => "false".to_owned(),
        };
        format!(
            "create function {function}() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $pulso$
             begin
               if tg_op = 'TRUNCATE' then
                 delete from {shadow};
                 return null;
               elsif tg_op = 'DELETE' then
                 delete from {shadow} t where {is_old};
                 return null;
               elsif tg_op = 'UPDATE' then
                 if {key_moves} then
                   delete from {shadow} t where {is_old};
                 else
                   update {shadow} t set {} where {is_old};
                   if found then
                     return null;
                   end if;
                 end if;
               end if;
               insert into {shadow} as t ({}) overriding system value values ({})
               on conflict ({}) do update set {};
               return null;
             end
             $pulso$;
             alter function {function}() owner to {};
             revoke execute on function {function}() from public;
             create trigger zz_pulso_mirror after insert or update or delete on {name} for each row execute function {function}();
             create trigger zz_pulso_mirror_truncate after truncate on {name} for each statement execute function {function}();
",
            set("new"),
            self.list(""),
            self.list("new."),
            self.key().join(", "),
            set("excluded"),
            quote(&shape.owner),
        )
    }

    /// Ends the mirroring without a swap.
    pub fn unmirror(&self) -> String {
        let name = &self.shape.name;
        format!(
            "drop trigger if exists zz_pulso_mirror on {name}; drop trigger if exists zz_pulso_mirror_truncate on {name};\n"
        )
    }

    /// Copies the rows of some blocks of `from`, but for those that somebody is changing: their change is mirrored. The
    /// rows are locked, so that no change goes by unseen, and never waited for, so that nobody can deadlock with this.
    ///
    /// Where the role may switch triggers off (`quick`), the keys of all rows are written at once, and foreign keys are not
    /// looked up a second time: rows of the table obey them, and stay as they are while they are locked.
    pub fn copy(&self, from: &str, first: i64, end: i64, quick: bool) -> String {
        let rows = format!(
            "insert into {} ({}) overriding system value
             select {} from only {from} o where o.ctid >= '({first},0)' and o.ctid < '({end},0)' for share of o skip locked
             on conflict do nothing",
            self.shadow(),
            self.list(""),
            self.list("o."),
        );
        let keys = self.key_columns().join(", ");
        match quick {
            false => rows,
            true if self.guarded && self.to_hypertable() => format!(
                "set local session_replication_role = replica;
                 with copied as ({rows} returning {keys}) insert into {} ({keys}) select {keys} from copied",
                self.keys()
            ),
            true => format!("set local session_replication_role = replica; {rows}"),
        }
    }

    /// Copies what is missing still, some rows at a time. Finding them takes long, so they are locked only then.
    pub fn catch_up(&self) -> String {
        let same =
            self.matched().iter().map(|column| format!("t.{column} = o.{column}")).collect::<Vec<_>>().join(" and ");
        format!(
            "with missing as materialized (
               select o.tableoid as relation, o.ctid as place from {3} o where not exists (select from {0} t where {same}) limit 5000)
             insert into {0} ({1}) overriding system value
             select {2} from {3} o
              where o.ctid = any (array(select m.place from missing m)) and (o.tableoid, o.ctid) in (select m.relation, m.place from missing m)
                for share of o skip locked
             on conflict do nothing",
            self.shadow(),
            self.list(""),
            self.list("o."),
            self.shape.name,
        )
    }

    /// Rows and a sum over them of each table; they are the same where no row differs.
    pub fn compare(&self) -> String {
        let sum = |table: &str| {
            format!(
                "select count(*) as n, sum(hashtextextended(row({})::text, 0)::numeric) as h from {table} o",
                self.list("o.")
            )
        };
        format!(
            "select a.n = b.n and a.h is not distinct from b.h, a.n, b.n from ({}) a cross join ({}) b",
            sum(&self.shape.name),
            sum(&self.shadow())
        )
    }

    /// The tables change places. What was sent to the table that is comes to the one to be from here on.
    pub fn swap(&self) -> String {
        let (shape, shadow) = (self.shape, self.shadow());
        let (schema, table) = (quote(&shape.schema), quote(&shape.table));
        let mut sql = String::new();
        for sequence in &shape.sequences {
            sql += &match sequence.identity {
                true => format!(
                    "select setval(pg_get_serial_sequence({}, {}), s.last_value, s.is_called) from {} s;\n",
                    literal(&shadow),
                    literal(&sequence.column),
                    sequence.sequence
                ),
                false => format!("alter sequence {} owned by none;\n", sequence.sequence),
            };
        }
        sql += &self.unmirror();
        for publication in &shape.publications {
            sql += &format!("alter publication {} drop table {};\n", publication.name, shape.name);
        }
        for statistics in &shape.statistics {
            let (name, schema) = (quote(&statistics.name), &statistics.schema);
            sql += &format!(
                "alter statistics {} set schema {REPLACED};\nalter statistics {SHADOW}.{name} set schema {schema};\n",
                statistics.full_name
            );
        }
        sql +=
            &format!("alter table {} set schema {REPLACED};\nalter table {shadow} set schema {schema};\n", shape.name);
        for sequence in shape.sequences.iter().filter(|sequence| !sequence.identity) {
            sql += &format!(
                "alter sequence {} owned by {schema}.{table}.{};\n",
                sequence.sequence,
                quote(&sequence.column)
            );
        }
        for publication in &shape.publications {
            sql += &format!("alter publication {} add table {}{};\n", publication.name, shape.name, publication.what);
        }
        for trigger in shape.triggers.iter().filter(|trigger| !is_ours(&trigger.name)) {
            sql += &format!("{};\n", trigger.definition);
            let how = match trigger.enabled.as_str() {
                "D" => Some("disable"),
                "R" => Some("enable replica"),
                "A" => Some("enable always"),
                _ => None,
            };
            if let Some(how) = how {
                sql += &format!("alter table {} {how} trigger {};\n", shape.name, quote(&trigger.name));
            }
            if let Some(comment) = &trigger.comment {
                sql += &format!(
                    "comment on trigger {} on {} is {};\n",
                    quote(&trigger.name),
                    shape.name,
                    literal(comment)
                );
            }
        }
        for view in &shape.views {
            let options =
                view.options.as_ref().filter(|options| !options.is_empty()).map(|options| format!(" with ({options})"));
            sql += &format!(
                "create or replace view {}{} as {};\n",
                view.name,
                options.unwrap_or_default(),
                view.definition.trim_end_matches(';')
            );
        }
        if self.to_hypertable() && self.guarded {
            sql += &self.moved(&shape.name);
        }
        sql
    }

    /// Drops the table that was, and what only the conversion needed.
    pub fn retire(&self) -> String {
        let table = quote(&self.shape.table);
        let mut sql = format!(
            "drop table if exists {REPLACED}.{table};\ndrop function if exists {SHADOW}.{}();\n",
            quote(&format!("mirror_{}", self.shape.table))
        );
        if !self.to_hypertable() {
            sql += &self.drop_keys();
        }
        sql
    }
}

/// Triggers that a conversion makes.
fn is_ours(name: &str) -> bool {
    matches!(name, "00_pulso_chunk" | "pulso_keys_new" | "pulso_keys_set") || name.starts_with("zz_pulso_")
}
