//! A transfer list to one rsync call (spec 5, "rsync calls").
