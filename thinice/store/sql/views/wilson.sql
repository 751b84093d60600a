-- Wilson's score interval of k of n at 95 %
create or replace macro wilson_low(k, n) as
    greatest(0, (k + 1.920729410347062 - 1.959963984540054 * sqrt(greatest(0, k * (1 - k / n)) + 0.960364705173531))
        / (n + 3.841458820694124));
create or replace macro wilson_high(k, n) as
    least(1, (k + 1.920729410347062 + 1.959963984540054 * sqrt(greatest(0, k * (1 - k / n)) + 0.960364705173531))
        / (n + 3.841458820694124));
comment on macro wilson_low is 'Lower end of Wilson''s interval of the share k of n at 95 %.';
comment on macro wilson_high is 'Upper end of Wilson''s interval of the share k of n at 95 %.';
