"""HTTP: the API that image clients already speak, a page, metrics; knows the service, never the engine."""
