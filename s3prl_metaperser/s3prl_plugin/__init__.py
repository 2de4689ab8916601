"""What s3prl calls: the launcher, the registration, the runner, the expert."""
