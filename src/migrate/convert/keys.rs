//! The table of keys beside a hypertable: what is unique without the time, what others refer to, what joined rollups read.

use super::shape::{literal, quote};
use super::statements::Plan;

/// What the contract's rollups of lines read of their sale, so that they can rest on the table of keys whether they are
/// there already or come later.
const JOINED: &[(&str, &str)] = &[
    ("public.sales", "store_id"),
    ("public.sales", "business_date"),
    ("public.sales", "status"),
    ("public.sales", "kind"),
];

impl Plan<'_> {
    /// Columns of the table of keys: the time, all that is unique without it, and what joined rollups read.
    pub fn key_columns(&self) -> Vec<String> {
        let mut columns = vec![self.time()];
        let unique = self.originals.iter().flat_map(|index| &index.columns).map(String::as_str);
        let joined = JOINED.iter().filter(|(table, _)| *table == self.wanted.table).map(|(_, column)| *column);
        let there = |name: &&str| self.shape.columns.iter().any(|column| column.name == *name);
        for name in unique.chain(joined.filter(there)) {
            if !columns.contains(&quote(name)) {
                columns.push(quote(name));
            }
        }
        columns
    }

    /// The table of keys is kept by the shadow's triggers, so that the two are one from the first row on.
    pub fn make_keys(&self) -> String {
        let (shadow, keys, time) = (self.shadow(), self.keys(), self.time());
        let columns = self.key_columns();
        let primary: Vec<String> = self.shape.primary().iter().map(|name| quote(name)).collect();
        let name = |index: &str| {
            quote(&format!(
                "{}_keys_{}",
                self.shape.table,
                index.strip_prefix(&format!("{}_", self.shape.table)).unwrap_or(index)
            ))
        };
        let mut sql = format!(
            "create table {keys} as select {}, {time} as moved_to from {} with no data;
             alter table {keys} owner to {};
             comment on table {keys} is {};
             comment on column {keys}.moved_to is 'Where a row is going that changes its time: null but within that statement.';\n",
            columns.join(", "),
            self.shape.name,
            quote(&self.shape.owner),
            literal(&format!("Keys of {}, a hypertable: what is unique without the time, and what others refer to. Kept by its triggers; made by Pulso.", self.shape.table)),
        );
        for index in &self.originals {
            let listed = index.columns.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
            sql += &match index.primary {
                true => format!(
                    "alter table {keys} add constraint {} primary key ({listed}), alter {time} set not null;\n",
                    name(&index.name)
                ),
                false => format!("create unique index {} on {keys} ({listed});\n", name(&index.name)),
            };
        }
        let pkey = self.shape.indexes.iter().find(|index| index.primary).map_or("", |index| &index.name);
        let of = |row: &str| columns.iter().map(|column| format!("{row}.{column}")).collect::<Vec<_>>().join(", ");
        let set = |row: &str| {
            columns.iter().map(|column| format!("{column} = {row}.{column}")).collect::<Vec<_>>().join(", ")
        };
        let is_old = primary
            .iter()
            .chain([&time])
            .map(|column| format!("k.{column} = old.{column}"))
            .collect::<Vec<_>>()
            .join(" and ");
        let changed = columns
            .iter()
            .map(|column| format!("old.{column} is distinct from new.{column}"))
            .collect::<Vec<_>>()
            .join(" or ");
        let values = primary.iter().map(|column| format!("new.{column}")).collect::<Vec<_>>().join(", ");
        let marks = primary.iter().map(|_| "%s").collect::<Vec<_>>().join(", ");
        let (keep, move_, moved) = (self.function("keys"), self.function("moves"), self.function("moved"));
        sql += &format!(
            "create function {keep}() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $pulso$
             begin
               if tg_op = 'DELETE' then
                 delete from {keys} k where {is_old};
                 return null;
               elsif tg_op = 'UPDATE' then
                 update {keys} k set {} where {is_old};
                 return null;
               end if;
               -- A row that moves has its key already.
               insert into {keys} as k ({}) values ({})
               on conflict ({}) do update set {} where k.{time} = excluded.{time};
               if not found then
                 raise exception 'duplicate key value violates unique constraint %', {}
                   using errcode = '23505', detail = format('Key ({}) = ({marks}) exists already, at another time.', {values}),
                         constraint = {}, table = {}, schema = {};
               end if;
               return null;
             end
             $pulso$;\n",
            set("new"),
            columns.join(", "),
            of("new"),
            primary.join(", "),
            set("excluded"),
            literal(&quote(pkey)),
            primary.join(", ").replace('\'', "''").replace('%', "%%"),
            literal(pkey),
            literal(&self.shape.table),
            literal(&self.shape.schema),
        );
        // In its chunk a row stays until its statement has changed it, and goes then: so the statement has changed a row, and
        // its command tag says so.
        sql += &format!(
            "create function {move_}() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $pulso$
             begin
               if not exists (
                 select from timescaledb_information.chunks c
                  where (c.chunk_schema, c.chunk_name) = (tg_table_schema, tg_table_name)
                    and new.{time} >= c.range_start and new.{time} < c.range_end
               ) then
                 update {keys} k set moved_to = new.{time} where {is_old};
                 perform set_config('pulso.moving', 'on', true);
                 new.{time} := old.{time};
               end if;
               return new;
             end
             $pulso$;\n"
        );
        sql += &self.moved(&shadow);
        for function in [&keep, &move_, &moved] {
            sql += &format!(
                "alter function {function}() owner to {}; revoke execute on function {function}() from public;\n",
                quote(&self.shape.owner)
            );
        }
        sql += &format!(
            "create trigger pulso_keys_new after insert or delete on {shadow} for each row execute function {keep}();
             create trigger pulso_keys_set after update on {shadow} for each row when ({changed}) execute function {keep}();
             create trigger zz_pulso_moves before update on {shadow} for each row when (old.{time} is distinct from new.{time}) execute function {move_}();
             create trigger zz_pulso_moved after update on {shadow} for each row when (current_setting('pulso.moving', true) = 'on') execute function {moved}();\n"
        );
        sql
    }

    /// The function that moves rows. It writes to the hypertable by its name, which is another once that has its place.
    pub fn moved(&self, table: &str) -> String {
        let (keys, time, moved) = (self.keys(), self.time(), self.function("moved"));
        let primary: Vec<String> = self.shape.primary().iter().map(|name| quote(name)).collect();
        let same = |alias: &str| {
            primary.iter().map(|column| format!("{alias}.{column} = new.{column}")).collect::<Vec<_>>().join(" and ")
        };
        format!(
            "create or replace function {moved}() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $pulso$
             declare
               came_from {keys}.{time}%type := new.{time};
             begin
               update {keys} k set {time} = k.moved_to, moved_to = null where {} and k.moved_to is not null returning k.{time} into new.{time};
               if found then
                 -- First the new row, then the old one: it is never away.
                 insert into {table} ({}) overriding system value values ({});
                 delete from {table} t where {} and t.{time} = came_from;
               end if;
               return null;
             end
             $pulso$;
",
            same("k"),
            self.list(""),
            self.list("new."),
            same("t"),
        )
    }

    pub fn drop_keys(&self) -> String {
        let mut sql = format!("drop table if exists {};\n", self.keys());
        for purpose in ["keys", "moves", "moved"] {
            sql += &format!("drop function if exists {}();\n", self.function(purpose));
        }
        sql
    }
}
