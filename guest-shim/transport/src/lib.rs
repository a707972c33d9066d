//! Guest side of the rings: finds the device, claims a channel, sends calls
