//! Fields that cannot be changed in place.
