// SPDX-License-Identifier: MIT

package docs

// words are the texts of the page, by language.
var words = map[string]map[string]string{
	"en": {
		"title": "Meet API: a page for integrators", "skip": "Skip to the content", "contents": "Contents", "language": "Language",
		"guide": "Ten minutes to the first room", "examples": "Examples", "reference": "Reference", "try": "Try it",
		"examplesAbout": "Each creates a room for a user and prints its address. They read MEET_CLIENT_ID, MEET_CLIENT_SECRET and MEET_USER from the environment.",
		"tryAbout":      "Against this gateway, from this page. What you type is sent to this gateway only and is forgotten when you leave.",
		"tryScript":     "This part needs JavaScript. Without it, take the curl example.",
		"clientID":      "Client id", "clientSecret": "Client secret", "mail": "Mail address of a user", "getToken": "Get a token",
		"list": "List rooms", "create": "Create a room", "identity": "Who am I?", "answer": "Answer", "nothing": "Nothing was sent yet.",
		"failed":  "The gateway was not reached.",
		"english": "", "parameters": "Parameters", "body": "Body", "request": "Example of a body", "answers": "Answers",
		"name": "Name", "place": "In", "type": "Type", "meaning": "Meaning", "required": "required", "status": "Status", "example": "Example",
		"description": "The same as OpenAPI:",
	},
	"fr": {
		"title": "API de Meet : la page des intégrateurs", "skip": "Aller au contenu", "contents": "Sommaire", "language": "Langue",
		"guide": "Dix minutes jusqu'à la première salle", "examples": "Exemples", "reference": "Référence", "try": "Essayer",
		"examplesAbout": "Chacun crée une salle pour un utilisateur et affiche son adresse. Ils lisent MEET_CLIENT_ID, MEET_CLIENT_SECRET et MEET_USER dans l'environnement.",
		"tryAbout":      "Auprès de cette passerelle, depuis cette page. Ce que vous saisissez n'est envoyé qu'à cette passerelle et est oublié quand vous partez.",
		"tryScript":     "Cette partie a besoin de JavaScript. Sans lui, prenez l'exemple curl.",
		"clientID":      "Identifiant client", "clientSecret": "Secret client", "mail": "Adresse électronique d'un utilisateur", "getToken": "Obtenir un jeton",
		"list": "Lister les salles", "create": "Créer une salle", "identity": "Qui suis-je ?", "answer": "Réponse", "nothing": "Rien n'a encore été envoyé.",
		"failed":  "La passerelle n'a pas été jointe.",
		"english": "Les descriptions détaillées sont en anglais, comme le document OpenAPI.", "parameters": "Paramètres", "body": "Corps", "request": "Exemple de corps", "answers": "Réponses",
		"name": "Nom", "place": "Où", "type": "Type", "meaning": "Sens", "required": "obligatoire", "status": "Statut", "example": "Exemple",
		"description": "La même chose en OpenAPI :",
	},
}

// translations are the translated titles of the description.
var translations = map[string]map[string]string{
	"fr": {
		"Authentication": "Authentification", "Rooms": "Salles", "Identity": "Identité", "Discovery": "Découverte",
		"Tokens for applications that act on behalf of users (RFC 6749, RFC 7009, RFC 7662).": "Jetons pour les applications qui agissent au nom d'utilisateurs (RFC 6749, RFC 7009, RFC 7662).",
		"The rooms of the user whom a token stands for.":                                      "Les salles de l'utilisateur que le jeton représente.",
		"What a credential is, and who is behind it.":                                         "Ce qu'est un justificatif, et qui se trouve derrière.",
		"Documents that clients configure themselves by.":                                     "Documents avec lesquels les clients se configurent eux-mêmes.",
		"Get a token":                              "Obtenir un jeton",
		"Revoke a token (RFC 7009)":                "Révoquer un jeton (RFC 7009)",
		"Ask about a token (RFC 7662)":             "Interroger un jeton (RFC 7662)",
		"List rooms":                               "Lister les salles",
		"Create a room":                            "Créer une salle",
		"Read a room":                              "Lire une salle",
		"What a credential is":                     "Ce qu'est un justificatif",
		"Which application is behind a credential": "Quelle application est derrière un justificatif",
		"The public signing keys (RFC 7517)":       "Les clés publiques de signature (RFC 7517)",
		"Where tokens are issued (RFC 8414)":       "Où les jetons sont émis (RFC 8414)",
		"What tokens are for (RFC 9728)":           "À quoi servent les jetons (RFC 9728)",
		"This description":                         "Cette description",
		"This description as JSON":                 "Cette description en JSON",
	},
}

// translated returns the text in the language, or unchanged.
func translated(lang, text string) string {
	if t, ok := translations[lang][text]; ok {
		return t
	}
	return text
}
