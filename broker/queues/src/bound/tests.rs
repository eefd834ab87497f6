mod backlog;
mod leases;
