"""Plan runs and execute them: plan, engines, worker and runner."""
