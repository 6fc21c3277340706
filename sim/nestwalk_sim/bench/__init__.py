"""The workloads of `nestwalk bench`: what is asked, what the unit takes for it, and what others take.

`platform` builds tenants in memory, `session` drives and checks, one module for each family of workloads measures,
`targets` knows limits, peers and targets, `table` and `plots` show. Every answer of every workload is compared with
the host address that the tables were built for.
"""
