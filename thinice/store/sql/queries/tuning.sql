select settings::text as settings, "median", default_median, n from tunings where fingerprint = $fingerprint
