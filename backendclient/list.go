package backendclient
const meetPageSize = 20
