-- A cafeteria: orders and their items.
create table users (id bigint generated always as identity primary key, name text not null);
create table orders (
  id bigint generated always as identity primary key, user_id bigint not null references users, status text not null,
  total numeric(12, 2) not null, created_at timestamptz not null default now()
);
create table order_items (
  id bigint generated always as identity primary key, order_id bigint not null references orders (id),
  item text not null, quantity integer not null, price numeric(12, 2) not null
);
insert into users (name) select 'Usuario ' || i from generate_series(1, 50) i;
insert into orders (user_id, status, total, created_at)
select i % 50 + 1, case i % 9 when 0 then 'cancelled' else 'paid' end, i % 13 + 0.50, now() - i * interval '5 minutes'
  from generate_series(1, 9000) i;
insert into order_items (order_id, item, quantity, price)
select o.id, (array['café', 'arepa', 'jugo'])[o.id % 3 + 1], o.id % 4 + 1, 2.50 from orders o;
create index on order_items (order_id);
analyze;
