// The stack that the shops had planned: Fastify, a Redis cache with a time to live, pg. As fast as it fairly can be: a process for
// each core, a pool of connections, named prepared statements, and a statement over Pulso's own rollups, which the plan
// (materialized views, and a cache dropped by hand) did not have: the contract's dashboard, as Pulso itself read it before it
// read those of several shops at once. On a database whose rollups run their queries the same statement counts. Answers are put
// together by PostgreSQL, so Node formats no numbers.
//
//   PORT, DATABASE_URL, REDIS_URL, WORKERS (2), POOL (8 connections in all)
import cluster from "node:cluster";
import { readFileSync } from "node:fs";
import Fastify from "fastify";
import Redis from "ioredis";
import pg from "pg";

const workers = Number(process.env.WORKERS ?? 2);
const pool_size = Number(process.env.POOL ?? 8);
const TTL_SECONDS = 300;

if (cluster.isPrimary) {
  for (let n = 0; n < workers; n++) cluster.fork();
  cluster.on("exit", (_, code) => process.exit(code ?? 1));
  process.on("SIGTERM", () => process.exit(0));
} else {
  serve();
}

// Dates as they are, not as JavaScript's.
pg.types.setTypeParser(pg.types.builtins.DATE, (text) => text);

async function serve() {
  const dashboard = readFileSync(new URL("dashboard.sql", import.meta.url), "utf8");
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: Math.max(1, Math.floor(pool_size / workers)) });
  // A batch of commands that were issued in one turn of the event loop goes out as one.
  const redis = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true });
  const app = Fastify({ logger: false, keepAliveTimeout: 75_000 });
  const uuid = { type: "string", pattern: "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$" };
  const schema = {
    params: { type: "object", properties: { id: uuid } },
    querystring: { type: "object", properties: { date: { type: "string", pattern: "^\\d{4}-\\d{2}-\\d{2}$" } }, required: ["date"] },
  };

  async function read(id, date) {
    const { rows } = await pool.query({ name: "dashboard", text: dashboard, values: [id, date] });
    return JSON.stringify(rows[0]);
  }

  app.get("/v1/stores/:id/dashboard", { schema }, async (request, reply) => {
    const { id } = request.params;
    const { date } = request.query;
    reply.type("application/json");
    if (request.headers["cache-control"] === "no-cache") return read(id, date);
    const key = `dashboard:${id}:${date}`;
    const kept = await redis.get(key);
    if (kept !== null) return kept;
    const answer = await read(id, date);
    await redis.set(key, answer, "EX", TTL_SECONDS);
    return answer;
  });
  app.get("/health", async () => ({ status: "up" }));
  await app.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 4096 });
}
