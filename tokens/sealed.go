package tokens

// BackendUnreadable reports whether the application has backend credentials that
// were encrypted with a secret which is not configured here. It cannot be used
// until they are set again or forgotten.
func (app *Application) BackendUnreadable() bool {
	return app.Backend == nil && app.sealedBackend != ""
}

// ForgetBackend removes the backend credentials, also those that cannot be read.
// Setting Backend to nil alone keeps the latter. It is for
// [Authority.UpdateApplication].
func (app *Application) ForgetBackend() { app.Backend, app.sealedBackend = nil, "" }
