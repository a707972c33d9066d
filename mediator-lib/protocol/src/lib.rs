//! Call table, wire format, rings and register map shared by guest and host
