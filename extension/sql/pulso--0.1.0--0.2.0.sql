-- From the first version to this one.
\echo Use "alter extension pulso update to '0.2.0'" to load this file. \quit
